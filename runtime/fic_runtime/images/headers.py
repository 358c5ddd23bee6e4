"""What a picture file says about itself, checked before a decoder is allowed to believe it.

OpenCV answers half a picture for a truncated file and takes gigabytes for a few hostile bytes,
without a word. So the file is walked first, block by block, with the standard library only and
without allocating the picture. Where a decoder would still do harm, it gets a copy of the bytes
without what harms: text that inflates, frames of an animation, tags that it misreads.
"""

import os
import struct
from dataclasses import replace

from ..errors import ImageError
from .avif import read_avif
from .formats import READERS, REMEDY, TRUNCATED, DamageError, ImageHeader

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_WORKING_BYTES",
    "ImageHeader",
    "chosen_max_pixels",
    "read_header",
]

MAX_PIXELS = 2**27  # 134 megapixels: a 100-megapixel photo passes
MAX_WORKING_BYTES = 10**9  # of memory while decoding; see ImageHeader.bytes_per_pixel
MAX_SIDE = 65535  # of a JPEG, and more than any picture to classify needs

_READERS = {**READERS, "AVIF": read_avif}
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"P4": "PNM",
    b"P5": "PNM",
    b"P6": "PNM",
}


def chosen_max_pixels(max_pixels: int | None) -> int:
    """Return how many pixels a picture may have: those given, FIC_MAX_PIXELS, or `MAX_PIXELS`.

    Raises:
        ImageError: FIC_MAX_PIXELS is not such a number.
        ValueError: `max_pixels` is out of range.
    """
    if max_pixels is not None:
        if max_pixels < 1:
            raise ValueError(f"max_pixels is at least 1; received {max_pixels}")
        return max_pixels
    text = os.environ.get("FIC_MAX_PIXELS")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or not int(text):
        raise ImageError(f"FIC_MAX_PIXELS is {text!r}; set it to a number of pixels, at least 1")
    return int(text)


def read_header(data: bytes, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Walk the blocks of a picture file, given as bytes; `name` is used in errors.

    Raises:
        ImageError: not a picture of a known format, truncated, damaged, or too large.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty; copy it again or leave it out")
    format = _find_format(data)
    if format is None:
        raise ImageError(
            f"{name}: not a picture of a known format ({', '.join(_READERS)}); "
            "convert it to JPEG or PNG, or leave it out"
        )
    try:
        header = _READERS[format](data)
    except (struct.error, IndexError, OverflowError):  # read past the end
        raise ImageError(f"{name}: the {format} file {TRUNCATED}") from None
    except DamageError as damage:
        raise ImageError(f"{name}: the {format} file {damage}") from None
    width, height = header.width, header.height
    if min(width, height) < 1:
        raise ImageError(f"{name}: the {format} file has no pixels ({width}x{height}); {REMEDY}")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} pixels is past the limit of {max_pixels} pixels and "
            f"{MAX_SIDE} a side; make the picture smaller"
        )
    if width * height * header.bytes_per_pixel > MAX_WORKING_BYTES:
        raise ImageError(
            f"{name}: {width}x{height} pixels of this kind of {format} take over "
            f"{MAX_WORKING_BYTES // 10**6} MB of memory; make the picture smaller"
        )
    return header if header.picture else replace(header, picture=data)


def _find_format(data: bytes) -> str | None:
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else None
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        return "AVIF" if b"avif" in brands or b"avis" in brands else None
    return next((format for magic, format in _MAGIC.items() if data.startswith(magic)), None)
