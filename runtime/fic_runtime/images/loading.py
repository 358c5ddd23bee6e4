"""Pictures of any kind to the uint8 RGB pixels that a base gets: decode, turn upright, resize.

Training and serving both go through `decode_image` and `resize_image`, so they cannot see
different pixels. Transparency is
dropped, not blended, as Keras, TensorFlow and Pillow's `convert("RGB")` do it.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..preprocessing import ChannelOrder, Geometry
from .headers import MAX_PIXELS, ImageHeader, read_header
from .resizing import Pixels8, resize_image

MAX_BYTES = 2**30  # of a file; 134 megapixels of 16-bit RGB without compression are 0.8 GB


class PillowImage(Protocol):
    """What is used of a PIL.Image.Image; Pillow itself is never imported."""

    mode: str

    def convert(self, mode: str) -> Any:
        """Return a copy in another mode."""

    def getexif(self) -> Any:
        """Return the EXIF tags, by number."""


ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | PillowImage
)

# EXIF orientation → (swap rows and columns first, then cv2.flip's code: 0 top-bottom, 1 left-right,
# -1 both)
_UPRIGHT: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}
_SENSOR_BITS = (8, 10, 12, 14, 16)


def load_image(
    image: ImageSource,
    geometry: Geometry,
    *,
    channel_order: ChannelOrder = "rgb",
    out: Pixels8 | None = None,
) -> Pixels8:
    """Return a picture as uint8 RGB of shape (geometry.height, geometry.width, 3).

    The one way to the base's input: `to_rgb`, then `resize_image`, whose arguments these are.

    Raises:
        ImageError: the file or array is not a picture.
    """
    pixels = to_rgb(image, channel_order=channel_order, geometry=geometry)
    return resize_image(pixels, geometry, out=out)


def to_rgb(
    image: ImageSource,
    *,
    channel_order: ChannelOrder = "rgb",
    geometry: Geometry | None = None,
) -> Pixels8:
    """Return the pixels of a path, a file's bytes, an array or a PIL image: uint8 RGB, (h, w, 3).

    An array is uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); `channel_order` says how
    its channels are ordered, and is ignored for files and PIL images, which know it. The input is
    never changed, but the result may share an array's memory. `geometry` is that of the resize to
    come: see `decode_image`.

    Raises:
        ImageError: the file or array is not a picture.
        TypeError: `image` is none of these kinds.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, geometry=geometry)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), geometry=geometry)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return _from_pillow(image)
    if hasattr(image, "__array__"):
        return _from_array(np.asarray(image), channel_order)
    if image is None:
        raise ImageError(
            "the image is None, which OpenCV returns where it finds no picture; check the source"
        )
    raise TypeError(
        "an image is a path, bytes, a uint8 array or a PIL image; "
        f"received {type(image).__module__}.{type(image).__qualname__}"
    )


def read_image(path: str | os.PathLike[str], *, geometry: Geometry | None = None) -> Pixels8:
    """Return the pixels of a file: uint8 RGB, (h, w, 3), upright; see `decode_image`.

    Raises:
        ImageError: the file cannot be read or is not a picture.
    """
    return decode_image(read_file(path), name=os.fspath(path), geometry=geometry)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a picture file.

    Raises:
        ImageError: it cannot be read, or is too large, or a folder.
    """
    # Not cv2.imread: it cannot open non-ASCII names on Windows.
    # A Path as it is: one of a class of its own knows better how it is read.
    file = path if isinstance(path, Path) else Path(path)
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # one that is locked says so
            raise ImageError(
                f"{path}: not a file but a folder; name picture files, or a folder that holds some"
            )
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a file; name a picture file")
        if status.st_size > MAX_BYTES:
            raise ImageError(
                f"{path}: {status.st_size} bytes is past the limit of {MAX_BYTES}; "
                "make the picture smaller"
            )
        return file.read_bytes()
    except FileNotFoundError:
        fits = ", and nothing fits it as a pattern" if is_pattern(path) else ""
        raise ImageError(f"{path}: no such file{fits}; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{path}: cannot be read ({reason}); check the path and its permissions"
        ) from error


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Tell whether a name may be a pattern for several files, as in a shell."""
    return re.search(r"[*?[]", os.fspath(path)) is not None


def decode_image(
    data: bytes,
    *,
    name: str = "image",
    geometry: Geometry | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pixels8:
    """Return the pixels of a picture file given as bytes: uint8 RGB, (h, w, 3), upright.

    Of an animation, the first frame. 16-bit samples lose their low byte; those of TIFF and PNM are
    first taken to fill the fewest of 8, 10, 12, 14 or 16 bits that hold the brightest one, since
    sensors of 10 to 14 bits leave the upper bits empty. `name` is used in errors.

    With a `geometry`, a JPEG is decoded at the largest of 1/2, 1/4 and 1/8 that its `jpeg_margin`
    allows, which costs less than the whole.

    Raises:
        ImageError: not a picture, truncated, damaged, or of more than `max_pixels`.
    """
    header = read_header(data, name=name, max_pixels=max_pixels)
    import cv2

    # The header's orientation is used instead: OpenCV's differs between formats and versions.
    flags = _reduced_flag(header, geometry) | cv2.IMREAD_IGNORE_ORIENTATION
    if header.format in ("TIFF", "PNM"):
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        # Any: OpenCV's stubs know neither the dtype nor that the answer may be None.
        pixels: Any = cv2.imdecode(np.frombuffer(header.picture, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(name, header) from error
    if pixels is None:
        raise _undecodable(name, header)
    if pixels.dtype == np.uint16:
        pixels = _to_8_bits(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise _undecodable(name, header)
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return _turn_upright(pixels, header.orientation)


def _reduced_flag(header: ImageHeader, geometry: Geometry | None) -> int:
    import cv2

    if header.format == "JPEG" and geometry is not None and geometry.jpeg_margin > 0:
        height, width = header.height, header.width
        if header.orientation >= 5:
            height, width = width, height
        for scale, flag in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            least = scale * geometry.jpeg_margin
            if height >= least * geometry.height and width >= least * geometry.width:
                return flag
    return cv2.IMREAD_COLOR


def _undecodable(name: str, header: ImageHeader) -> ImageError:
    import cv2

    return ImageError(
        f"{name}: OpenCV {cv2.__version__} cannot decode this {header.format} file, which is "
        "damaged or of a kind that this version does not read; convert it to PNG or leave it out"
    )


def _to_8_bits(samples: NDArray[np.uint16]) -> Pixels8:
    brightest = int(samples.max())
    bits = next(bits for bits in _SENSOR_BITS if brightest < 1 << bits)
    pixels = np.empty(samples.shape, np.uint8)
    return np.right_shift(samples, bits - 8, out=pixels, casting="unsafe")


def _turn_upright(pixels: Pixels8, orientation: int) -> Pixels8:
    if orientation == 1:
        return pixels
    import cv2

    transposed, flip = _UPRIGHT[orientation]
    turned: Any = cv2.transpose(pixels) if transposed else pixels
    if flip is not None:
        # In place where it is a copy already: a photo may be a large part of the memory.
        turned = cv2.flip(turned, flip, dst=turned if transposed else None)
    return cast(Pixels8, turned)


def _from_pillow(image: Any) -> Pixels8:
    if image.mode in ("I", "F"):
        raise ImageError(
            f"a PIL image of mode {image.mode} has no agreed range; scale it to 0..255 and "
            'convert it with image.convert("L")'
        )
    try:
        if image.mode.startswith("I;16"):
            pixels = _from_array(_to_8_bits(np.asarray(image)), "rgb")
        else:
            pixels = _from_array(np.asarray(image.convert("RGB")), "rgb")
        orientation = image.getexif().get(274, 1)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes only now
        raise ImageError(f"a PIL image cannot be decoded ({error}); repair its file") from error
    return _turn_upright(pixels, orientation if orientation in _UPRIGHT else 1)


def _from_array(array: NDArray[Any], channel_order: ChannelOrder) -> Pixels8:
    received = f"received {array.dtype} of shape {array.shape}"
    if array.dtype != np.uint8:
        remedy = "for values in 0..1 use (image * 255).round().astype('uint8')"
        if array.dtype.kind in "iu":
            remedy = "scale it to 0..255 and use image.astype('uint8')"
        raise ImageError(f"an image array is uint8 with values 0..255; {received}; {remedy}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(
            f"an image array has the shape (h, w), (h, w, 3) or (h, w, 4); {received}; "
            "pass one image at a time, channels last"
        )
    if not array.size:
        raise ImageError(f"an image array has at least one pixel; {received}; check the source")
    array = np.ascontiguousarray(array)
    if channels == 3 and channel_order == "rgb":
        return array
    import cv2

    code = {
        (1, "rgb"): cv2.COLOR_GRAY2RGB,
        (1, "bgr"): cv2.COLOR_GRAY2RGB,
        (3, "bgr"): cv2.COLOR_BGR2RGB,
        (4, "rgb"): cv2.COLOR_RGBA2RGB,
        (4, "bgr"): cv2.COLOR_BGRA2RGB,
    }[channels, channel_order]
    rgb: Any = cv2.cvtColor(array, code)
    return cast(Pixels8, rgb)
