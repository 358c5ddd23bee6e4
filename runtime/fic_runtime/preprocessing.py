"""What turns a picture into the base's input, as numbers that travel with the bundle.

Stored as numbers and not as the name of a mode, so a runtime of today serves a base of tomorrow.
This module needs only the standard library; the pixels themselves are moved in `images`.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from .errors import BundleError

ChannelOrder = Literal["rgb", "bgr"]
Resize = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Channel order, then `x * scale + offset` per channel, for x in 0..255.

    Scale and offset are given in the order of `channel_order`.
    """

    channel_order: ChannelOrder = "rgb"
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def apply(self, pixels: Any) -> Any:
        """Turn float32 RGB pixels 0..255, (..., 3), into the base's input of the same shape.

        The arithmetic that the exported graph holds, for a NumPy array or a TensorFlow tensor.
        """
        import numpy as np

        ordered = pixels[..., ::-1] if self.channel_order == "bgr" else pixels
        return ordered * np.array(self.scale, np.float32) + np.array(self.offset, np.float32)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a picture of any size becomes `height` x `width` pixels.

    `stretch` ignores the aspect ratio; `crop` takes the central part of the picture with the
    target's aspect ratio, `crop_fraction` of it; `pad` fits the whole picture and fills the rest
    with black. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as what is left is at
    least `jpeg_margin` times the target on both sides; 0 turns that off.
    """

    height: int
    width: int
    resize: Resize = "stretch"
    crop_fraction: float = 0.875
    jpeg_margin: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Geometry, done by the runtime, and pixel numbers, done inside `base.onnx`."""

    geometry: Geometry
    pixels: Pixels

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-ready values, as they stand in a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Read what `to_dict` wrote.

        Raises:
            BundleError: a number is missing or out of range, or something is unknown here.
        """
        try:
            geometry = _geometry(values["geometry"])
            raw = values["pixels"]
            pixels = Pixels(
                channel_order=raw["channel_order"],
                scale=_three_numbers(raw["scale"]),
                offset=_three_numbers(raw["offset"]),
            )
        except KeyError as error:
            raise BundleError(
                f"preprocessing: {error} is missing; export the bundle again"
            ) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"preprocessing: {error}; export the bundle again") from error
        _check_word("resize", geometry.resize, get_args(Resize))
        _check_word("channel order", pixels.channel_order, get_args(ChannelOrder))
        return cls(geometry=geometry, pixels=pixels)


def _geometry(values: Mapping[str, Any]) -> Geometry:
    # Not ignored as elsewhere: a rule unknown here would give other pixels than in training.
    unknown = sorted(set(values) - {field.name for field in fields(Geometry)})
    if unknown:
        raise BundleError(
            f"preprocessing: the geometry's {', '.join(unknown)} is unknown to this runtime; "
            "upgrade fic-runtime"
        )
    geometry = Geometry(
        height=_side(values["height"]),
        width=_side(values["width"]),
        resize=values["resize"],
        crop_fraction=_number(values["crop_fraction"]),
        jpeg_margin=_number(values["jpeg_margin"]),
    )
    if not 0 < geometry.crop_fraction <= 1:
        raise ValueError(f"crop_fraction {geometry.crop_fraction} is not in (0, 1]")
    if geometry.jpeg_margin != 0 and geometry.jpeg_margin < 1:
        raise ValueError(f"jpeg_margin {geometry.jpeg_margin} is neither 0 nor at least 1")
    return geometry


def _side(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{reprlib.repr(value)} is not a number of pixels")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(value)} is not a number")
    return float(value)


def _three_numbers(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError(f"{reprlib.repr(values)} should be three numbers")
    first, second, third = map(_number, values)
    return first, second, third


def _check_word(what: str, word: Any, known: tuple[str, ...]) -> None:
    if word not in known:
        raise BundleError(
            f"preprocessing: {what} {reprlib.repr(word)} is unknown to this runtime "
            f"({', '.join(known)}); upgrade fic-runtime"
        )
