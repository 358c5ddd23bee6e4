"""How the files of each format are built, block by block: what to check, and where the size stands.

Each reader gets the bytes of a whole file and returns its header. It raises DamageError, or lets
struct.error, IndexError or OverflowError pass, which all mean that the file ends too early.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from .tiff import ORIENTATION, TiffDirectory, read_exif_orientation

TRUNCATED = "ends before its picture does; copy it again or leave it out"
REMEDY = "repair it or leave it out"
_TOO_MANY_PARTS = f"is made of more parts than any picture; {REMEDY}"
_MOST_PARTS = 300_000  # a photo of 100 megapixels as PNG has 50 000 chunks
_MOST_GIF_BLOCKS = 5_000_000  # of at most 255 bytes


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Format, and the size in pixels as stored, before `orientation` (EXIF, 1..8) is applied.

    `bytes_per_pixel` is the memory that decoding takes at its peak, as measured: 6 for RGB, since
    OpenCV's Python binding copies its result. `picture` is what to decode: the file's bytes, or a
    copy that holds only the first frame and nothing that leads a decoder astray. The orientation
    is for the caller to apply.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    bytes_per_pixel: float = 6
    picture: bytes = field(default=b"", repr=False)


class DamageError(Exception):
    """The rest of the sentence that begins with the name of the file."""


# JPEG: ITU-T T.81, annex B

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those that begin a segment, and EOI
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEQUENTIAL = (0xC0, 0xC1)
_JPEG_HUFFMAN = (0xC0, 0xC1, 0xC2)
_JPEG_MAX_SCANS = 100  # a progressive photo has about ten
_JPEG_MAX_SEGMENTS = 10_000  # a photo has a dozen, and one with depth or film a hundred or two
_JPEG_KEPT = re.compile(rb"\xff[\xe0-\xef]")  # for each of which decoders take 90 bytes
_JPEG_SHORT = 1 << 20  # bytes of a file, in which there is no room for many


def _read_jpeg(data: bytes) -> ImageHeader:
    position, orientation, frame, width, height, components = 2, 1, 0, 0, 0, b""
    for _ in range(_JPEG_MAX_SEGMENTS):
        # Search, as libjpeg does: some cameras leave junk between segments.
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise DamageError(TRUNCATED)
        marker, start = data[found.start() + 1], found.end()
        if marker == 0xD9:
            raise DamageError(f"holds no picture; {REMEDY}")
        (length,) = struct.unpack_from(">H", data, start)
        position = start + length
        if marker == 0xDA:
            break
        if marker in _JPEG_FRAMES and not frame:
            frame = marker
            height, width, count = struct.unpack_from(">HHB", data, start + 3)
            components = data[start + 8 : start + 8 + 3 * count]
        elif marker == 0xE1 and orientation == 1:
            orientation = read_exif_orientation(data[start + 2 : position])
    else:
        raise DamageError(_TOO_MANY_PARTS)
    if len(data) > _JPEG_SHORT and _segments_past(data, position) > _JPEG_MAX_SEGMENTS:
        raise DamageError(_TOO_MANY_PARTS)
    if not components:
        raise DamageError(f"has no frame header; {REMEDY}")
    # Inside a scan 0xFF is always stuffed, so an end marker after the first scan's header is real,
    # and one before it belongs to a thumbnail. rfind, for it is usually the last two bytes.
    if data.rfind(b"\xff\xd9", position) <= position:
        raise DamageError(TRUNCATED)
    # A Huffman-coded block of 64 pixels takes a bit at least, with subsampling 256 pixels do.
    if frame in _JPEG_HUFFMAN and width * height > 2048 * len(data):
        raise DamageError(f"is too short for the {width}x{height} pixels it claims; {REMEDY}")
    # Several scans: a decoder keeps all coefficients, and each scan costs a pass over them.
    several = frame not in _JPEG_SEQUENTIAL or data[start + 2] * 3 < len(components)
    if several and data.count(b"\xff\xda", position) >= _JPEG_MAX_SCANS:
        raise DamageError(f"has over {_JPEG_MAX_SCANS} scans; save it anew or leave it out")
    return ImageHeader(
        format="JPEG",
        width=width,
        height=height,
        orientation=orientation,
        bytes_per_pixel=4 + 2 * _samples_per_pixel(components) if several else 6,
    )


def _segments_past(data: bytes, position: int) -> int:
    """Return how many segments of applications there are, and one past the most at most."""
    found = _JPEG_KEPT.finditer(data, position)
    return sum(1 for _ in islice(found, _JPEG_MAX_SEGMENTS + 1))


def _samples_per_pixel(components: bytes) -> float:
    factors = [(max(both >> 4, 1), max(both & 15, 1)) for both in components[1::3]] or [(1, 1)]
    largest = max(across for across, _ in factors) * max(down for _, down in factors)
    return sum(across * down for across, down in factors) / largest


# PNG: w3.org/TR/png-3

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def _read_png(data: bytes) -> ImageHeader:
    view, position, orientation, kind = memoryview(data), 8, 1, b""
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    kinds = set()
    for _ in range(_MOST_PARTS):
        if kind == b"IEND":
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if kind in _PNG_KEPT:
            if zlib.crc32(view[position + 4 : end - 4]) != checksum:
                raise DamageError(f"has a wrong checksum in {kind.decode()}; {REMEDY}")
            kept.append(view[position:end])
        elif kind == b"eXIf":
            orientation = read_exif_orientation(data[position + 8 : end - 4])
        elif not kind[0] & 0x20:
            raise DamageError(f"holds an unknown critical chunk; {REMEDY}")
        kinds.add(kind)
        position = end
    else:
        raise DamageError(_TOO_MANY_PARTS)
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR" or b"IDAT" not in kinds or (colour == 3 and b"PLTE" not in kinds):
        raise DamageError(f"lacks its header, palette or pixels; {REMEDY}")
    if depth not in (1, 2, 4, 8, 16) or colour not in (0, 2, 3, 4, 6):
        raise DamageError(f"has the unknown colour type {colour} with {depth} bits; {REMEDY}")
    # Without the other chunks: libpng inflates up to 8 MB of text for each of a thousand of them.
    picture = b"".join(kept) if kinds.difference(_PNG_KEPT) else data
    return ImageHeader(
        format="PNG", width=width, height=height, orientation=orientation, picture=picture
    )


# GIF: w3.org/Graphics/GIF/spec-gif89a.txt


def _read_gif(data: bytes) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, first_end, blocks = 13 + _gif_palette_size(flags), 0, _MOST_GIF_BLOCKS
    while (block := data[position]) != 0x3B:
        if block == 0x21:
            position, blocks = _skip_gif_blocks(data, position + 2, blocks)
        elif block == 0x2C:
            left, top, columns, rows, flags = struct.unpack_from("<4HB", data, position + 1)
            start = position + 11 + _gif_palette_size(flags)
            position, blocks = _skip_gif_blocks(data, start, blocks)
            if not first_end:
                first_end = position
                width, height = max(width, left + columns), max(height, top + rows)
        else:
            raise DamageError(f"holds an unknown block; {REMEDY}")
    if not first_end:
        raise DamageError(f"holds no picture; {REMEDY}")
    return ImageHeader(
        format="GIF", width=width, height=height, bytes_per_pixel=8, picture=data[:first_end] + b";"
    )


def _gif_palette_size(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _skip_gif_blocks(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Return the position past the blocks, and how many more there may be."""
    while size := data[position]:
        position += size + 1
        most -= 1
        if most < 0:
            raise DamageError(_TOO_MANY_PARTS)
    return position + 1, most - 1


# BMP: learn.microsoft.com, BITMAPINFOHEADER


def _read_bmp(data: bytes) -> ImageHeader:
    offset, header_size = struct.unpack_from("<II", data, 10)
    compression = stored = 0
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
    else:
        width, height, _, bits, compression, stored = struct.unpack_from("<iiHHII", data, 18)
    height = abs(height)  # negative: the rows are stored from the top
    if width < 1:
        raise DamageError(f"has a width of {width}; {REMEDY}")
    if compression in (1, 2):
        needed = stored
    elif compression in (0, 3, 6):
        needed = (width * bits + 31) // 32 * 4 * height
    else:
        raise DamageError("has another format's data inside; convert it to PNG or leave it out")
    if offset + max(needed, 1) > len(data):
        raise DamageError(TRUNCATED)
    return ImageHeader(format="BMP", width=width, height=height)


# WebP: developers.google.com/speed/webp/docs/riff_container


def _read_webp(data: bytes) -> ImageHeader:
    end = 8 + int.from_bytes(data[4:8], "little")
    position, orientation, width, height, picture = 12, 1, 0, 0, b""
    canvas = (0, 0)
    parts = 0
    while position < end:
        parts += 1
        if parts > _MOST_PARTS:
            raise DamageError(_TOO_MANY_PARTS)
        kind, length = struct.unpack_from("<4sI", data, position)
        start, position = position + 8, position + 8 + length + (length & 1)
        if max(start + length, end) > len(data):
            raise DamageError(TRUNCATED)
        if kind == b"EXIF":
            orientation = read_exif_orientation(data[start : start + length])
        elif not width and kind == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, start + 6))
        elif not width and kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, start + 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif not width and kind == b"ANMF":
            width, height = _uint24(data, start + 6) + 1, _uint24(data, start + 9) + 1
            picture = _still_webp(data[start + 6 : start + 12], data[start + 16 : start + length])
        elif kind == b"VP8X":
            canvas = _uint24(data, start + 4) + 1, _uint24(data, start + 7) + 1
    if not width:
        raise DamageError(f"holds no picture; {REMEDY}")
    if not picture:  # a decoder may allocate either
        width, height = max(width, canvas[0]), max(height, canvas[1])
    return ImageHeader(
        format="WebP", width=width, height=height, orientation=orientation, picture=picture
    )


def _still_webp(size: bytes, frame: bytes) -> bytes:
    """Return the first frame as a file of its own; OpenCV 4.9 reads no animation."""
    has_alpha = b"\x10" if frame[:4] == b"ALPH" else b"\x00"
    chunks = b"WEBPVP8X\x0a\x00\x00\x00" + has_alpha + b"\x00\x00\x00" + size + frame
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _uint24(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


# TIFF 6.0

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP = 256, 257, 258, 259, 277, 278
_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 322, 323, 338, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets, byte counts
_TIFF_SAMPLES = 8  # of a pixel
_TIFF_PARTS = 1 << 20  # tiles of 16x16 pixels, of 134 megapixels with transparency


def _read_tiff(data: bytes) -> ImageHeader:
    tags = TiffDirectory(data)
    if tags.end > len(data):
        raise DamageError(TRUNCATED)
    (width,), (height,) = tags.values(_WIDTH, (0,)), tags.values(_HEIGHT, (0,))
    samples = tags.values(_SAMPLES, (1,))[0]
    bits = max(tags.values(_BITS, (1,), most=_TIFF_SAMPLES))
    if (
        set(tags.values(_SAMPLE_FORMAT, (1,), most=_TIFF_SAMPLES)) - {1, 4}
        or bits > 16
        or samples > _TIFF_SAMPLES
    ):
        raise DamageError(
            f"holds {samples} x {bits}-bit samples of a kind that has no agreed range; "
            "save it with unsigned 8 or 16 bits a sample"
        )
    _check_tiff_parts(tags, len(data), width, height, samples * bits)
    orientation = tags.orientation()
    picture = data
    # OpenCV turns some TIFFs upright and others not; and it multiplies colours by alpha of kind 2.
    if orientation != 1:
        picture = tags.with_value(picture, ORIENTATION, 1)
    if tags.values(_EXTRA_SAMPLES) == (2,) and tags.number(_EXTRA_SAMPLES) == 1:
        picture = tags.with_value(picture, _EXTRA_SAMPLES, 1)
    return ImageHeader(
        format="TIFF",
        width=width,
        height=height,
        orientation=orientation,
        bytes_per_pixel=6 if bits <= 8 else 4 * max(samples, 3),
        picture=picture,
    )


def _check_tiff_parts(
    tags: TiffDirectory, size: int, width: int, height: int, bits_per_pixel: int
) -> None:
    tiled = bool(tags.values(_TILES[0]))
    of_offsets, of_lengths = _TILES if tiled else _STRIPS
    if tiled:
        columns, rows = tags.values(_TILE_WIDTH, (0,))[0], tags.values(_TILE_HEIGHT, (0,))[0]
    else:
        columns, rows = width, min(tags.values(_ROWS_PER_STRIP, (height,))[0], height)
    if not 0 < columns * rows <= max(width * height, 2**24):
        raise DamageError(f"has parts of {columns}x{rows} pixels; {REMEDY}")
    planes = tags.values(_SAMPLES, (1,))[0] if tags.values(_PLANAR) == (2,) else 1
    needed = -(-width // columns) * -(-height // rows) * planes
    listed = tags.number(of_offsets)
    if not needed <= listed == tags.number(of_lengths):
        raise DamageError(f"lists {listed} of its {needed} parts; {REMEDY}")
    if listed > max(2 * needed, needed + 1000) or listed > _TIFF_PARTS:
        raise DamageError(_TOO_MANY_PARTS)
    offsets, lengths = tags.values(of_offsets, most=listed), tags.values(of_lengths, most=listed)
    if len(offsets) != len(lengths):
        raise DamageError(f"lists its parts by something other than numbers; {REMEDY}")
    if any(offset + length > size for offset, length in zip(offsets, lengths, strict=True)):
        raise DamageError(TRUNCATED)
    if (
        tags.values(_COMPRESSION, (1,)) == (1,)
        and sum(lengths) * 8 < width * height * bits_per_pixel
    ):
        raise DamageError(TRUNCATED)


# PNM, binary: netpbm.sourceforge.net/doc/pnm.html

# A comment ends with its line, and readers do not agree on what ends a line: so none may hold a
# carriage return, and the decoder gets a header without comments.
_PNM_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*\n)+(\d{1,9})")


def _read_pnm(data: bytes) -> ImageHeader:
    numbers, position = [], 2
    for _ in range(2 if data[1:2] == b"4" else 3):
        found = _PNM_NUMBER.match(data, position, 4096)
        if found is None:
            raise DamageError(f"has no legible header; {REMEDY}")
        numbers.append(int(found[1]))
        position = found.end()
    width, height, maximum = (*numbers, 1)[:3]
    row = (width + 7) // 8 if data[1:2] == b"4" else width * (3 if data[1:2] == b"6" else 1)
    if data[1:2] != b"4" and maximum != 255 and not 255 < maximum < 65536:
        raise DamageError(f"has the largest value {maximum}; save it with 255 or 65535")
    size = row * height * (2 if maximum > 255 else 1)
    if position + 1 + size > len(data):
        raise DamageError(TRUNCATED)
    if not data[position : position + 1].isspace():
        raise DamageError(f"has no legible header; {REMEDY}")
    numbers[2:] = [] if data[1:2] == b"4" else [maximum]
    header = data[:2] + b"\n" + b" ".join(b"%d" % number for number in numbers) + b"\n"
    pixels = data[position + 1 : position + 1 + size]
    return ImageHeader(format="PNM", width=width, height=height, picture=header + pixels)


READERS: dict[str, Callable[[bytes], ImageHeader]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "GIF": _read_gif,
    "BMP": _read_bmp,
    "WebP": _read_webp,
    "TIFF": _read_tiff,
    "PNM": _read_pnm,
}
