"""What a file's network expects of a picture: said by its publisher's config, or by the user.

Never guessed: the same weights give nonsense for pixels of another scale, and no graph says which
it was trained with. Read are the format of Hugging Face's image processors
(`preprocessor_config.json`) and timm's `pretrained_cfg` (in `config.json`). What the runtime cannot
do with a picture is refused by the name of its key.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fic_runtime.preprocessing import ChannelOrder, Geometry, Pixels, Preprocessing, Resize
from fic_runtime.reading import read_json

from ..errors import BaseOptionError, one_line
from ..options import PixelNumbers
from .table import MAX_IMAGE_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG_FILE = "preprocessor_config.json"
MODEL_FILE = "config.json"
MOST_BYTES = 8 << 20
"""Of a config; one with the names of 21 841 classes has 1 MB."""

_LEAST_CROP = 0.1  # publishers crop a tenth or an eighth away
_MOST = 1e300  # of any number
_LARGEST = 1e30  # of a scale or an offset of pixels, well within float32

Triple = tuple[float, float, float]

_NONE: Triple = (0.0, 0.0, 0.0)
_ONE: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """What is done to pixels 0..255, step by step as the publishers of weights write it.

    `(x * rescale + shift - mean) / std`, per channel in the order of `channel_order`.
    """

    rescale: float = 1.0
    shift: float = 0.0
    mean: Triple = _NONE
    std: Triple = _ONE
    channel_order: ChannelOrder = "rgb"

    @property
    def pixels(self) -> Pixels:
        """The same as one multiplication and one addition."""
        first, second, third = (self.rescale / std for std in self.std)
        a, b, c = ((self.shift - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
        return Pixels(
            channel_order=self.channel_order, scale=(first, second, third), offset=(a, b, c)
        )

    def apply(self, pixels: "NDArray[Any]") -> "NDArray[Any]":
        """Return float32 (..., 3) of uint8 RGB pixels, in the steps of the config."""
        import numpy as np  # here: to list bases costs nothing

        values = pixels[..., ::-1] if self.channel_order == "bgr" else pixels
        values = values.astype(np.float64) * self.rescale + self.shift
        normalized = (values - np.array(self.mean)) / np.array(self.std)
        return np.asarray(normalized, np.float32)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF: Triple = (0.5, 0.5, 0.5)

RULES: Mapping[PixelNumbers, PixelRule] = MappingProxyType(
    {
        "imagenet": PixelRule(rescale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
        "symmetric": PixelRule(rescale=1 / 255, mean=_HALF, std=_HALF),
        "clip": PixelRule(rescale=1 / 255, mean=_CLIP_MEAN, std=_CLIP_STD),
        "unit": PixelRule(rescale=1 / 255),
        "raw": PixelRule(),
    }
)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """How a picture becomes the input of a network.

    Attributes:
        rule: what is done to its pixels.
        geometry: what is done to its size; None where nothing says it.
        source: where that stands, for messages.
    """

    rule: PixelRule
    geometry: Geometry | None
    source: str

    @property
    def preprocessing(self) -> Preprocessing:
        """The same as the numbers that a bundle holds."""
        if self.geometry is None:
            raise ValueError("the size of the input is not known")
        return Preprocessing(geometry=self.geometry, pixels=self.rule.pixels)

    def fitted(self, *, height: int, width: int, resize: Resize | None) -> "Processor":
        """Return the same with the size of an input that takes no other, square or not."""
        return replace(
            self, geometry=Geometry(height=height, width=width, resize=resize or "stretch")
        )

    def sized(self, *, size: int | None, resize: Resize | None) -> "Processor":
        """Return the same with a size and a way to it that the user gave, or the network has.

        Raises:
            BaseOptionError: the size is past what any base is of use for.
        """
        if size is None and (resize is None or self.geometry is None):
            return self
        if size is not None and size > MAX_IMAGE_SIZE:
            raise BaseOptionError(
                f"an image size of {size} is too large; give at most {MAX_IMAGE_SIZE} with "
                "--image-size, or a network for smaller pictures"
            )
        if self.geometry is None or size is not None:
            known = self.geometry or Geometry(height=1, width=1)
            side = known.height if size is None else size
            geometry = replace(known, height=side, width=side)
        else:
            geometry = self.geometry
        return replace(self, geometry=replace(geometry, resize=resize or geometry.resize))


def find_config(folder: Path) -> Path | None:
    """Return the config that lies in a folder, that of a processor before that of a model."""
    path = folder / CONFIG_FILE
    if path.is_file():
        return path
    path = folder / MODEL_FILE
    return path if path.is_file() and "pretrained_cfg" in _values(path) else None


def read_processor(path: Path) -> Processor:
    """Read a config of Hugging Face's image processors, or of timm.

    Raises:
        BaseOptionError: it cannot be read, or asks for what the runtime cannot do.
    """
    values = _values(path)
    timm = values.get("pretrained_cfg")
    try:
        if isinstance(timm, dict):
            return Processor(rule=_timm_rule(timm), geometry=_timm_geometry(timm), source=str(path))
        _check_switches(values)
        return Processor(rule=_rule(values), geometry=_geometry(values), source=str(path))
    except _Unusable as error:
        raise BaseOptionError(
            f"{path}: {error}; give --pixels, --image-size and --resize instead"
        ) from None


def find_image_size(folder: Path) -> int | None:
    """Return the side of the input that the `config.json` of a model in this folder names."""
    path = folder / MODEL_FILE
    values = _values(path) if path.is_file() else {}
    vision = values.get("vision_config")
    for section in (values, vision if isinstance(vision, dict) else {}):
        size = section.get("image_size")
        if type(size) is int and 0 < size <= MAX_IMAGE_SIZE:
            return size
    return None


class _Unusable(ValueError):
    """Why a config cannot be followed."""


def _values(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise BaseOptionError(
            f"{path}: cannot be read ({reason}); give --preprocessor a preprocessor_config.json, "
            "or --pixels"
        ) from error
    if not isinstance(values, dict):
        raise BaseOptionError(
            f"{path}: is not a JSON object; give --preprocessor a preprocessor_config.json, or "
            "--pixels"
        )
    # Processors of several kinds of input keep that of pictures in a part of its own.
    inner = values.get("image_processor")
    return inner if isinstance(inner, dict) else values


# What they switch is done here, or has no effect on an RGB picture of the runtime.
_SWITCHES = frozenset(
    {
        *("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb"),
        *("do_flip_channel_order", "do_reduce_labels", "do_convert_annotations"),
    }
)
# Their side is the shorter one of the picture, where `size` is a number alone.
_SHORTEST_EDGE = frozenset(
    {"CLIP", "ChineseCLIP", "ConvNext", "LeViT", "Levit", "MobileNetV1", "MobileNetV2", "ResNet"}
)
_SQUARE = frozenset({"ViT", "DeiT", "Beit", "BEiT", "Siglip", "SigLIP", "Swin", "Blip", "BLIP"})


def _check_switches(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key.startswith("do_") and key not in _SWITCHES and value:
            raise _Unusable(f"{key[:60]} is something that fic cannot do with a picture")
    for key in ("include_top", "keep_aspect_ratio"):
        if values.get(key):
            raise _Unusable(f"{key} is something that fic cannot do with a picture")
    # Nearest neighbours are other pixels; of the smooth ways fic has one of its own.
    if values.get("resample") == 0 and values.get("do_resize", True):
        raise _Unusable("resample 0, the nearest pixel, is something that fic cannot do")


def _usable(rule: PixelRule) -> PixelRule:
    """Return a rule of which pixels do not become infinite, or numbers that are none."""
    pixels = rule.pixels
    if not all(abs(number) < _LARGEST for number in (*pixels.scale, *pixels.offset)):
        raise _Unusable("its mean, std and rescale_factor make infinite pixels")
    return rule


def _rule(values: Mapping[str, Any]) -> PixelRule:
    rescale, shift, mean, std = 1.0, 0.0, _NONE, _ONE
    if values.get("do_rescale", True):
        rescale = _number(values, "rescale_factor", 1 / 255)
        shift = -1.0 if values.get("rescale_offset") else 0.0
    if values.get("do_normalize", True):
        mean, std = _triple(values, "image_mean"), _triple(values, "image_std")
        if not all(std):
            raise _Unusable("image_std holds a zero")
    order: ChannelOrder = "bgr" if values.get("do_flip_channel_order") else "rgb"
    return _usable(PixelRule(rescale=rescale, shift=shift, mean=mean, std=std, channel_order=order))


def _geometry(values: Mapping[str, Any]) -> Geometry | None:
    crops = values.get("do_center_crop", "crop_size" in values)
    if not values.get("do_resize", True):
        if crops:
            raise _Unusable("do_center_crop without do_resize cuts pictures at their own size")
        return None
    size = _size(values, "size")
    if "longest_edge" in size or "max_height" in size:
        raise _Unusable("size by the longest edge gives inputs of different shapes")
    if "shortest_edge" not in size:
        height, width = _sides(size, "size")
        if crops and _sides(_size(values, "crop_size"), "crop_size") != (height, width):
            raise _Unusable("crop_size of a picture that was stretched to another size")
        return Geometry(height=height, width=width, resize="stretch")
    edge = _side(size["shortest_edge"], "size")
    if not crops:
        return _without_crop(values, edge)
    height, width = _sides(_size(values, "crop_size"), "crop_size")
    if height != width or height > edge:
        raise _Unusable(f"crop_size {height} x {width} of a picture whose shorter side is {edge}")
    return Geometry(height=height, width=width, resize="crop", crop_fraction=height / edge)


def _without_crop(values: Mapping[str, Any], edge: int) -> Geometry:
    """Return the rule of ConvNeXt, whose config has `crop_pct` in place of a crop."""
    if "crop_pct" not in values:
        raise _Unusable("size by the shortest edge without do_center_crop gives different shapes")
    if edge >= 384:
        return Geometry(height=edge, width=edge, resize="stretch")
    return _cropped(edge, _number(values, "crop_pct", 0.875), "crop_pct")


def _cropped(side: int, fraction: float, key: str) -> Geometry:
    if not _LEAST_CROP <= fraction <= 1:
        raise _Unusable(f"{key} {fraction} is not from {_LEAST_CROP} to 1")
    # The publishers cut a whole number of pixels off.
    return Geometry(
        height=side, width=side, resize="crop", crop_fraction=side / math.floor(side / fraction)
    )


def _timm_rule(values: Mapping[str, Any]) -> PixelRule:
    mean, std = _triple(values, "mean"), _triple(values, "std")
    if not all(std):
        raise _Unusable("std holds a zero")
    return _usable(PixelRule(rescale=1 / 255, mean=mean, std=std))


def _timm_geometry(values: Mapping[str, Any]) -> Geometry:
    shape = values.get("input_size")
    if not isinstance(shape, list) or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise _Unusable("input_size is not that of a square picture of three channels")
    side, mode = _side(shape[1], "input_size"), values.get("crop_mode", "center")
    fraction = _number(values, "crop_pct", 0.875)
    if mode == "center":
        return _cropped(side, fraction, "crop_pct")
    if mode == "squash" and fraction == 1:
        return Geometry(height=side, width=side, resize="stretch")
    raise _Unusable(
        f"crop_mode {reprlib.repr(mode)} with crop_pct {fraction:g} is something that fic lacks"
    )


def _size(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    size = values.get(key)
    if isinstance(size, dict):
        return {name: value for name, value in size.items() if value is not None}
    if isinstance(size, list | tuple) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    side = _side(size, key)
    if key == "crop_size":
        return {"height": side, "width": side}
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    for suffix in ("Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(suffix)
    if kind in _SQUARE:
        return {"height": side, "width": side}
    if kind in _SHORTEST_EDGE:
        return {"shortest_edge": side}
    raise _Unusable(f"size {side} does not say whether it is the shorter side or both")


def _sides(size: Mapping[str, Any], key: str) -> tuple[int, int]:
    if not {"height", "width"} <= set(size):
        if "shortest_edge" in size and key == "crop_size":
            side = _side(size["shortest_edge"], key)
            return side, side
        raise _Unusable(f"{key} names neither height and width nor a shortest edge")
    return _side(size["height"], key), _side(size["width"], key)


def _side(value: Any, key: str) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 1:
        raise _Unusable(f"{key} is {'missing' if value is None else 'not a number of pixels'}")
    if value > MAX_IMAGE_SIZE:
        raise _Unusable(f"{key} is past {MAX_IMAGE_SIZE} pixels, the largest that fic takes")
    return value


def _number(values: Mapping[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    if value is None:
        return default
    # An integer may be larger than any float.
    if type(value) not in (int, float) or not -_MOST < value < _MOST:
        raise _Unusable(f"{key} is not a number")
    return float(value)


def _triple(values: Mapping[str, Any], key: str) -> Triple:
    value = values.get(key)
    if type(value) in (int, float):
        value = [value] * 3
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise _Unusable(f"{key} is {'missing' if value is None else 'not three numbers'}")
    first, second, third = (_number({key: one}, key, math.nan) for one in value)
    return first, second, third
