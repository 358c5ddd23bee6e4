"""What a picture file says about itself, checked before a decoder is allowed to believe it.

OpenCV answers half a picture for a truncated file and takes gigabytes for a few hostile bytes,
without a word. So the file is walked first, block by block, with the standard library only and
without allocating the picture. Where a decoder would still do harm, it gets a copy of the bytes
without what harms: text that inflates, frames of an animation, tags that it misreads.
"""

import os
import re
import struct
from dataclasses import replace

from ..errors import ImageError
from .avif import read_avif
from .formats import READERS, REMEDY, TRUNCATED, DamageError, ImageHeader

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_WORKING_BYTES",
    "SNIFFED",
    "ImageHeader",
    "chosen_max_pixels",
    "is_picture",
    "other_format",
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

_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # their sizes in bytes
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_OTHERS = {
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF document",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<svg": "an SVG drawing",
    b"version https://git-lfs": "a pointer of Git LFS",
}
SNIFFED = 32  # first bytes of a file, which suffice for all of these


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
        raise ImageError(f"{name}: {_not_read(data)}")
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


def is_picture(start: bytes) -> bool:
    """Tell whether a file with these first `SNIFFED` bytes is a picture of a format that is read.

    Stricter than `read_header`, which is told that it is one: a text may well begin with BM or P5.
    """
    format = _find_format(start)
    if format == "BMP":
        return int.from_bytes(start[14:18], "little") in _BMP_HEADERS
    if format == "PNM":
        return re.match(rb"P[456]\s(#|\d+\s)", start) is not None
    return format is not None


def other_format(start: bytes) -> str | None:
    """Return the name of a format that is not read, by a file's first `SNIFFED` bytes."""
    if start[4:8] == b"ftyp":
        return "HEIC" if start[8:12] in _HEIC_BRANDS else None
    return next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)


def _not_read(data: bytes) -> str:
    """Return why a file is no picture, and what to do."""
    known = f"not a picture of a known format ({', '.join(READERS)})"
    other = other_format(data[:SNIFFED])
    if other == "HEIC":
        return f"{known} but HEIC; convert it to JPEG with heif-convert or, on macOS, sips"
    if other is not None:
        known += f" but {other}"
    return f"{known}; convert it to JPEG or PNG, or leave it out"


def _find_format(data: bytes) -> str | None:
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else None
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        return "AVIF" if b"avif" in brands or b"avis" in brands else None
    return next((format for magic, format in _MAGIC.items() if data.startswith(magic)), None)
