"""Pictures of any kind to the uint8 RGB pixels that a base gets: decode, turn upright, resize.

Training and serving both go through `decode_image` and `resize_image`, so they cannot see
different pixels. Transparency is
dropped, not blended, as Keras, TensorFlow and Pillow's `convert("RGB")` do it.
"""

import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..preprocessing import ChannelOrder, Geometry
from ..reading import open_regular
from .headers import ImageHeader, chosen_max_pixels, read_header
from .memory import decoding
from .resizing import Pixels8, resize_image

MAX_BYTES = 2**30  # of a file; 134 megapixels of 16-bit RGB without compression are 0.8 GB


class PillowImage(Protocol):
    """What is used of a PIL.Image.Image; Pillow itself is never imported."""

    mode: str

    def convert(self, mode: str) -> Any:
        """Return a copy in another mode."""

    def getexif(self) -> Any:
        """Return the EXIF tags, by number."""


class ReadableFile(Protocol):
    """An open file, or what a web framework makes of an upload."""

    def read(self) -> Any:
        """Return the bytes of a picture file."""


ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | NDArray[Any]
    | PillowImage
    | ReadableFile
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
_OF_ONE_SIZE = ("JPEG", "PNG", "BMP", "TIFF", "PNM")
_SENSOR_BITS = (8, 10, 12, 14, 16)


def load_image(
    image: ImageSource,
    geometry: Geometry,
    *,
    channel_order: ChannelOrder = "rgb",
    max_pixels: int | None = None,
    out: Pixels8 | None = None,
) -> Pixels8:
    """Return a picture as uint8 RGB of shape (geometry.height, geometry.width, 3).

    The one way to the base's input: `to_rgb`, then `resize_image`, whose arguments these are.

    Raises:
        ImageError: the file or array is not a picture.
    """
    with decoding():
        pixels = to_rgb(
            image, channel_order=channel_order, geometry=geometry, max_pixels=max_pixels
        )
        try:
            return resize_image(pixels, geometry, out=out)
        except MemoryError as error:
            raise _too_much("the image") from error


def to_rgb(
    image: ImageSource,
    *,
    channel_order: ChannelOrder = "rgb",
    geometry: Geometry | None = None,
    max_pixels: int | None = None,
) -> Pixels8:
    """Return the pixels of any picture: uint8 RGB, (h, w, 3).

    That is a path, a file's bytes, an open file or an upload, an array or a PIL image.

    An array is uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); `channel_order` says how
    its channels are ordered, and is ignored for files and PIL images, which know it. The input is
    never changed, but the result may share an array's memory. `geometry` is that of the resize to
    come, and `max_pixels` for whatever is yet to be decoded: see `decode_image`.

    Raises:
        ImageError: the file or array is not a picture.
        TypeError: `image` is none of these kinds.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, geometry=geometry, max_pixels=max_pixels)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), geometry=geometry, max_pixels=max_pixels)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return _from_pillow(image, chosen_max_pixels(max_pixels))
    if hasattr(image, "read"):
        return _from_file(image, geometry, max_pixels)
    if hasattr(image, "__array__"):
        return _from_array(np.asarray(image), channel_order)
    if image is None:
        raise ImageError(
            "the image is None, which OpenCV returns where it finds no picture; check the source"
        )
    raise TypeError(
        "an image is a path, bytes, an open file, a uint8 array or a PIL image; "
        f"received {type(image).__module__}.{type(image).__qualname__}"
    )


def read_image(
    path: str | os.PathLike[str],
    *,
    geometry: Geometry | None = None,
    max_pixels: int | None = None,
) -> Pixels8:
    """Return the pixels of a file: uint8 RGB, (h, w, 3), upright; see `decode_image`.

    Raises:
        ImageError: the file cannot be read or is not a picture.
    """
    with decoding():
        return decode_image(
            read_file(path), name=os.fspath(path), geometry=geometry, max_pixels=max_pixels
        )


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a picture file.

    Raises:
        ImageError: it cannot be read, or is too large, or a folder.
    """
    # Not cv2.imread: it cannot open non-ASCII names on Windows.
    with decoding() as room:
        try:
            if isinstance(path, Path) and type(path).read_bytes is not Path.read_bytes:
                return path.read_bytes()  # of a class of its own, which knows how that is done
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_BYTES:
                    raise ImageError(
                        f"{path}: {size} bytes is past the limit of {MAX_BYTES}; "
                        "make the picture smaller"
                    )
                room.take_file(size)
                return _first_bytes(file, size)
        except FileNotFoundError:
            fits = ", and nothing fits it as a pattern" if is_pattern(path) else ""
            raise ImageError(f"{path}: no such file{fits}; check the path") from None
        except MemoryError as error:
            raise _too_much(path) from error
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> ImageError:
    reason: object = getattr(error, "strerror", None) or error
    try:
        if Path(path).is_dir():
            os.scandir(path).close()  # one that is locked says so
            return ImageError(
                f"{path}: not a file but a folder; name picture files, or a folder that holds some"
            )
        if Path(path).exists() and not Path(path).is_file():
            return ImageError(f"{path}: not a file; name a picture file")
    except (OSError, ValueError) as second:
        reason = getattr(second, "strerror", None) or second
    return ImageError(f"{path}: cannot be read ({reason}); check the path and its permissions")


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Tell whether a name may be a pattern for several files, as in a shell."""
    return re.search(r"[*?[]", os.fspath(path)) is not None


def _first_bytes(file: BinaryIO, size: int) -> bytes:
    """Return as many bytes as the file had when it was opened; it may grow for ever."""
    data = file.read(size) or b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def decode_image(
    data: bytes,
    *,
    name: str = "image",
    geometry: Geometry | None = None,
    max_pixels: int | None = None,
) -> Pixels8:
    """Return the pixels of a picture file given as bytes: uint8 RGB, (h, w, 3), upright.

    Of an animation, the first frame. 16-bit samples lose their low byte; those of TIFF and PNM are
    first taken to fill the fewest of 8, 10, 12, 14 or 16 bits that hold the brightest one, since
    sensors of 10 to 14 bits leave the upper bits empty. `name` is used in errors.

    With a `geometry`, a JPEG is decoded at the largest of 1/2, 1/4 and 1/8 that its `jpeg_margin`
    allows, which costs less than the whole.

    Args:
        data: the file.
        name: what errors call it.
        geometry: that of the resize to come.
        max_pixels: the most pixels that it may have; FIC_MAX_PIXELS or 134 217 728 by default.

    Raises:
        ImageError: not a picture, truncated, damaged, or of more than `max_pixels`.
    """
    header = read_header(data, name=name, max_pixels=chosen_max_pixels(max_pixels))
    with decoding() as room:
        flag, scale = _reduction(header, geometry)
        pixels_each = header.bytes_per_pixel / scale**2
        if header.bytes_per_pixel != ImageHeader.bytes_per_pixel:  # coefficients of all of it
            pixels_each = header.bytes_per_pixel
        room.take_pixels(int(header.width * header.height * pixels_each))
        try:
            return _decoded(header, name, flag, scale)
        except MemoryError as error:
            raise _too_much(name) from error


def _decoded(header: ImageHeader, name: str, flag: int, scale: int) -> Pixels8:
    import cv2

    # The header's orientation is used instead: OpenCV's differs between formats and versions.
    flags = flag | cv2.IMREAD_IGNORE_ORIENTATION
    if header.format in ("TIFF", "PNM"):
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        # Any: OpenCV's stubs know neither the dtype nor that the answer may be None.
        pixels: Any = cv2.imdecode(np.frombuffer(header.picture, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(name, header) from error
    # None, or another picture than the one whose size was looked at.
    if pixels is None or not _fits(pixels.shape, header, scale):
        raise _undecodable(name, header)
    if pixels.dtype == np.uint16:
        pixels = _to_8_bits(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise _undecodable(name, header)
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return _turn_upright(pixels, header.orientation)


def _reduction(header: ImageHeader, geometry: Geometry | None) -> tuple[int, int]:
    """Return OpenCV's flag for a JPEG that is decoded at a part of its size, and which part."""
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
                return flag, scale
    return cv2.IMREAD_COLOR, 1


def _fits(shape: tuple[int, ...], header: ImageHeader, scale: int) -> bool:
    """Return whether what was decoded has the size that was checked.

    A first frame may be smaller than the animation, and tiles larger than what they show.
    """
    height, width = -(-header.height // scale), -(-header.width // scale)
    if header.format in _OF_ONE_SIZE:
        return shape[:2] == (height, width)
    return shape[0] * shape[1] <= height * width


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


def _too_much(name: object) -> ImageError:
    return ImageError(
        f"{name}: takes more memory than there is; make the picture smaller, or set FIC_MAX_PIXELS"
    )


def _from_pillow(image: Any, max_pixels: int) -> Pixels8:
    width, height = getattr(image, "size", (0, 0))
    if width * height > max_pixels:
        raise ImageError(
            f"a PIL image of {width}x{height} pixels is past the limit of {max_pixels}; make it "
            "smaller"
        )
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
    except MemoryError as error:
        raise _too_much("a PIL image") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes only now
        raise ImageError(f"a PIL image cannot be decoded ({error}); repair its file") from error
    return _turn_upright(pixels, orientation if orientation in _UPRIGHT else 1)


def _from_file(file: Any, geometry: Geometry | None, max_pixels: int | None) -> Pixels8:
    """Decode what is left to read of a file; one that can be rewound is left where it was."""
    from inspect import iscoroutine, iscoroutinefunction  # some milliseconds of a start

    name = getattr(file, "filename", None) or getattr(file, "name", None)
    name = name if isinstance(name, str) else "an open file"
    # Of uploads that are read with await, the file inside can be read here.
    if iscoroutinefunction(file.read):
        file = getattr(file, "file", file)
    try:
        position = file.tell() if hasattr(file, "seek") else None
    except (OSError, ValueError, NotImplementedError):
        position = None  # a pipe, a socket
    try:
        data = file.read()
        if position is not None:
            file.seek(position)
    except (OSError, ValueError) as error:  # ValueError: it is closed, or its text is none
        raise ImageError(f"{name}: cannot be read ({error}); open the picture again") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        if iscoroutine(data):
            data.close()
        raise ImageError(
            f"{name}: read() gives {type(data).__name__} and not bytes; open it with mode 'rb', or "
            "give what await read() gives"
        )
    if not len(data):
        raise ImageError(f"{name}: nothing is left to read; rewind it with seek(0)")
    return decode_image(bytes(data), name=name, geometry=geometry, max_pixels=max_pixels)


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
