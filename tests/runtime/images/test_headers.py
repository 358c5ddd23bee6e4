"""The walk through a picture file: sizes, truncation, damage and bombs, all without decoding."""

import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic_runtime.errors import ImageError
from fic_runtime.images import decode_image
from fic_runtime.images.headers import MAX_PIXELS, read_header


def photo(height: int = 48, width: int = 64) -> Any:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encode(suffix: str, pixels: Any, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, list(options))[1])


def pillow_bytes(format: str, **options: Any) -> bytes:
    image = pytest.importorskip("PIL.Image").fromarray(photo())
    image = image.convert(options.pop("mode", "RGB"))
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def animated(format: str) -> bytes:
    frames = pytest.importorskip("PIL.Image")
    more = [frames.fromarray(np.roll(photo(), 9 * shift, 1)) for shift in range(1, 4)]
    return pillow_bytes(format, save_all=True, append_images=more)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, extra: bytes = b"", bits: int = 8, colour: int = 0) -> bytes:
    rows = zlib.compress(bytes((1 + width) * height)) if width * height < 10**6 else b"x"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], size: int = 400, order: str = "<") -> bytes:
    """Return a TIFF of the entries (tag, type, number, value) and zeros up to `size`."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(
        struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, number, value)
        for tag, kind, number, value in entries
    )
    data = head + struct.pack(order + "IH", 8, len(entries)) + body
    return data.ljust(size, b"\0")


def jpeg_with_size(width: int, height: int) -> bytes:
    data = bytearray(encode(".jpg", photo()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


FILES = {
    "jpeg": lambda: encode(".jpg", photo()),
    "jpeg progressive": lambda: encode(".jpg", photo(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with a thumbnail": lambda: with_thumbnail(encode(".jpg", photo())),
    "png": lambda: encode(".png", photo()),
    "bmp": lambda: encode(".bmp", photo()),
    "webp lossy": lambda: encode(".webp", photo(), cv2.IMWRITE_WEBP_QUALITY, 80),
    "webp lossless": lambda: encode(".webp", photo(), cv2.IMWRITE_WEBP_QUALITY, 101),
    "tiff": lambda: encode(".tif", photo()),
    "pnm": lambda: encode(".ppm", photo()),
    "tiff directory first": lambda: pillow_bytes("TIFF"),
    "tiff jpeg": lambda: pillow_bytes("TIFF", compression="jpeg"),
    "bigtiff": lambda: pillow_bytes("TIFF", big_tiff=True),
    "gif": lambda: pillow_bytes("GIF"),
    "gif animated": lambda: animated("GIF"),
    "webp animated": lambda: animated("WEBP"),
    "avif": lambda: pillow_bytes("AVIF"),
}


def with_thumbnail(jpeg: bytes) -> bytes:
    thumbnail = encode(".jpg", photo(12, 16))
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail + jpeg[2:]


def make(kind: str) -> bytes:
    if kind == "avif" and not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    return FILES[kind]()


@pytest.mark.parametrize("kind", FILES)
def test_the_size_is_read_from_every_format(kind):
    header = read_header(make(kind))

    assert (header.width, header.height, header.orientation) == (64, 48, 1)
    assert header.format.lower() in kind


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_error(kind):
    data = make(kind)
    cuts = {0, 1, 2, 5, 12, 20, 30, len(data) - 200, len(data) - 20, len(data) - 2, len(data) - 1}
    cuts |= {len(data) * percent // 100 for percent in range(2, 100, 2)}
    if kind in ("tiff", "bigtiff"):
        cuts -= {len(data) - 1, len(data) - 2}  # the last field may be padded

    for cut in sorted(cut for cut in cuts if 0 <= cut < len(data)):
        with pytest.raises(ImageError) as caught:
            decode_image(data[:cut], name="cut.bin")
        assert str(caught.value).startswith("cut.bin: "), cut
        assert "OpenCV" not in str(caught.value), cut  # never left to the decoder


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_the_picture():
    data = make("jpeg with a thumbnail")

    with pytest.raises(ImageError, match=r"^x: the JPEG file ends before its picture does"):
        read_header(data[: len(data) - 40], name="x")


def test_junk_between_jpeg_segments_is_skipped():
    data = make("jpeg")

    assert read_header(data[:20] + b"junk!" + data[20:]).width == 64


def test_what_follows_the_picture_does_not_matter():
    data = make("jpeg")

    assert read_header(data + bytes(1000) + data[:300]).width == 64


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_read_in_both_byte_orders(order, orientation):
    exif = b"Exif\0\0" + tiff((274, 3, 1, orientation), order=order)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    data = make("jpeg")

    assert read_header(data[:2] + segment + data[2:]).orientation == orientation


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0garbage, and more of it",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + tiff((274, 3, 1, 9)),
        b"Exif\0\0" + tiff((274, 2, 1, 6)),
        b"Exif\0\0" + tiff((274, 3, 2**31, 6)),
        b"Exif\0\0" + tiff((270, 2, 50, 2**32 - 1)),
    ],
)
def test_a_damaged_exif_block_costs_only_the_orientation(exif):
    data = make("jpeg")

    header = read_header(
        data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]
    )

    assert (header.width, header.orientation) == (64, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"[.ShellClassInfo]\r\n", "not a picture of a known format"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "but HEIC; convert it to JPEG with heif-convert"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), r"known format \([\w, ]*\); convert it to JPEG"),
        (b"%PDF-1.7\n" + bytes(40), "but a PDF"),
        (b"BM" + bytes(100), "has a width of 0"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b"") + bytes(40), "lacks its header"),
        (png(8, 8, colour=1), "unknown colour type 1"),
        (png(8, 8, extra=chunk(b"CgBI", b"1234")), "unknown critical chunk"),
        (png(8, 8).replace(b"IDAT", b"IDAS"), "unknown critical|lacks|checksum"),
        (png(8, 8)[:-20] + b"\1" + png(8, 8)[-19:], "wrong checksum in IDAT"),
        (png(8, 8, colour=3), "lacks its header, palette"),
        (png(0, 8), "has no pixels"),
        (b"P6 8 8 15\n" + bytes(500), "largest value 15"),
        (b"P6 eight 8 255\n" + bytes(500), "no legible header"),
        (b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", "holds no picture"),
        (b"\xff\xd8\xff\xd9", "holds no picture"),
        (b"RIFF\x04\0\0\0WEBP", "holds no picture"),
        (tiff((256, 3, 1, 8), (257, 3, 1, 8), (339, 3, 1, 3), (258, 3, 1, 32)), "no agreed range"),
        (tiff((256, 3, 1, 8), (257, 3, 1, 8)), "lists 0 of its 1 parts"),
        (tiff((256, 3, 1, 8), (257, 3, 1, 8), (273, 4, 1, 390), (279, 4, 1, 64)), "ends before"),
        (tiff((256, 3, 1, 8), (257, 3, 1, 80), (273, 4, 1, 80), (279, 4, 1, 8)), "ends before"),
        (tiff((256, 3, 1, 8), (270, 2, 500, 300)), "ends before"),
        (
            tiff(
                (256, 3, 1, 8),
                (257, 3, 1, 8),
                (273, 4, 1, 200),
                (277, 3, 1, 3),
                (279, 4, 1, 64),
                (284, 3, 1, 2),
            ),
            "lists 1 of its 3 parts",
        ),
        (b"\0\0\0\x14ftypavif" + bytes(8) + struct.pack(">I4sQ", 1, b"free", 4), "ends before"),
    ],
)
def test_damage_is_named_in_one_sentence(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        read_header(data, name="photos/a.bin")

    assert str(caught.value).startswith("photos/a.bin: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(30000, 30000), id="png"),
        pytest.param(png(65536, 1), id="png of one row"),
        pytest.param(jpeg_with_size(65500, 65500), id="jpeg"),
        pytest.param(jpeg_with_size(11500, 11500), id="jpeg within the limit, but no bytes for it"),
        pytest.param(
            b"BM" + struct.pack("<IIIIiiHHII", 0, 0, 54, 40, 40000, 40000, 1, 24, 1, 1) + bytes(60),
            id="bmp",
        ),
        pytest.param(
            b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
            + b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\1\1\0;",
            id="gif",
        ),
        pytest.param(
            b"RIFF\x1c\0\0\0WEBPVP8L\x10\0\0\0\x2f" + struct.pack("<I", 2**28 - 1) + bytes(11),
            id="webp",
        ),
        pytest.param(
            b"RIFF\x2e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xff\xff\x00" * 2
            + b"VP8L\x10\0\0\0\x2f" + struct.pack("<I", 7 << 14 | 7) + bytes(11),
            id="webp of a huge canvas",
        ),
        pytest.param(b"P5 60000 60000 255\n" + bytes(60), id="pnm"),
        pytest.param(
            tiff((256, 4, 1, 60000), (257, 4, 1, 60000), (259, 3, 1, 5),
                 (273, 4, 1, 80), (279, 4, 1, 8)),
            id="tiff",
        ),
        pytest.param(
            tiff((256, 3, 1, 8), (257, 3, 1, 8), (322, 4, 1, 2**31), (323, 4, 1, 2**31),
                 (324, 4, 1, 80), (325, 4, 1, 8)),
            id="tiff of one huge tile",
        ),
        pytest.param(
            struct.pack(">I4s8x", 16, b"ftyp").replace(bytes(8), b"avif\0\0\0\0")
            + struct.pack(">I4s4xI4s4xII", 32, b"meta", 20, b"ispe", 50000, 50000),
            id="avif",
        ),
    ],
)  # fmt: skip
def test_a_bomb_is_refused_from_its_header(data):
    tracemalloc = pytest.importorskip("tracemalloc")
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"past the limit|too short|parts of|ends before"):
            decode_image(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 2**20  # NumPy and Python report to tracemalloc; OpenCV was never called


def test_the_limit_on_pixels_can_be_set():
    data = make("png")

    assert read_header(data, max_pixels=48 * 64).width == 64
    with pytest.raises(ImageError, match="64x48 pixels is past the limit of 3071 pixels"):
        read_header(data, max_pixels=48 * 64 - 1)


def resized_jpeg(*options: int, factors: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444) -> bytes:
    data = encode(".jpg", photo(), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors, *options)
    frame = re.search(rb"\xff[\xc0\xc2]\0\x11", data).start()
    data = data[: frame + 5] + struct.pack(">HH", 11000, 11000) + data[frame + 9 :]
    return data[:-2] + bytes(200_000) + data[-2:]


LARGE_GIF = b"GIF89a" + struct.pack("<HHBBB", 12000, 11000, 0, 0, 0) + b"," + bytes(9) + b"\2\0;"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: resized_jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), id="progressive jpeg"),
        pytest.param(lambda: LARGE_GIF, id="gif"),
        pytest.param(
            lambda: tiff((256, 4, 1, 11000), (257, 4, 1, 11000), (258, 3, 1, 16), (259, 3, 1, 5),
                         (273, 4, 1, 90), (279, 4, 1, 8)),
            id="16-bit tiff",
        ),
    ],
)  # fmt: skip
def test_a_kind_that_takes_more_memory_has_a_lower_limit(data):
    with pytest.raises(ImageError, match="take over 1000 MB of memory"):
        read_header(data())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: resized_jpeg(), id="sequential"),
        pytest.param(
            lambda: resized_jpeg(
                cv2.IMWRITE_JPEG_PROGRESSIVE, 1, factors=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
            ),
            id="progressive with subsampling",
        ),
    ],
)
def test_a_jpeg_that_takes_less_memory_passes_at_the_same_size(data):
    assert read_header(data()).width == 11000


def test_of_an_animation_only_the_first_frame_reaches_the_decoder():
    for format in ("GIF", "WEBP"):
        data = animated(format)
        assert len(read_header(data).picture) < len(data) / 2


def test_a_photo_of_100_megapixels_is_within_the_limits():
    assert MAX_PIXELS > 11608 * 8708
    data = jpeg_with_size(11608, 8708)

    assert read_header(data[:-2] + bytes(200_000) + data[-2:]).width == 11608


MANY = 400_000
APP2 = b"\xff\xe2\0\2"


def tiff_of_many_strips() -> bytes:
    strips = ((273, 4, MANY, 200), (278, 3, 1, 1), (279, 4, MANY, 200))
    data = tiff((256, 3, 1, 8), (257, 3, 1, 8), (259, 3, 1, 1), *strips, size=200)
    return data + struct.pack("<I", 8) * MANY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(lambda: make("jpeg")[:2] + APP2 * MANY + make("jpeg")[2:], "more parts",
                     id="segments of a jpeg"),
        pytest.param(lambda: make("jpeg")[:-2] + APP2 * MANY + b"\xff\xd9", "more parts",
                     id="segments past its scan"),
        pytest.param(lambda: png(8, 8, extra=chunk(b"tEXt", b"") * MANY), "more parts",
                     id="chunks of a png"),
        pytest.param(tiff_of_many_strips, "more parts", id="strips of a tiff"),
        pytest.param(lambda: b"RIFF" + struct.pack("<I", 8 * MANY + 4) + b"WEBP"
                     + b"XMP \0\0\0\0" * MANY, "more parts", id="chunks of a webp"),
        pytest.param(
            lambda: struct.pack(">I4s8x", 16, b"ftyp").replace(bytes(8), b"avif\0\0\0\0")
            + struct.pack(">I4s4x", 4 * MANY + 12, b"meta") + b"ispe" * MANY,
            r"over 1000 sizes|ends before", id="sizes of an avif"),
    ],
)  # fmt: skip
def test_what_is_made_of_endless_parts_is_refused(data, message):
    with pytest.raises(ImageError, match=message):
        read_header(data())


def test_a_tag_that_has_one_value_gives_one_whatever_it_states():
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 274, 3, MANY, 26, 0) + b"\6\0" * MANY
    tracemalloc = pytest.importorskip("tracemalloc")
    data = png(8, 8, extra=chunk(b"eXIf", exif))
    tracemalloc.start()
    try:
        assert read_header(data).orientation == 6
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"P5\n#\r40 30 255 \n1 1 255\n" + bytes(1200),
        b"P4\n#\r300 200 \n1 1\n" + bytes(8000),
        b"P6\n1 1 255#\n" + bytes(9),
    ],
)
def test_a_pnm_whose_header_readers_take_for_different_ones_is_refused(data):
    with pytest.raises(ImageError, match="has no legible header"):
        decode_image(data)


def test_the_decoder_gets_a_pnm_without_comments():
    header = read_header(b"P5 # by hand\n2\t1 #\n 255\n" + b"\1\2" + b"more")
    assert header.picture == b"P5\n2 1 255\n\1\2"


@pytest.fixture
def avif() -> bytes:
    try:
        return encode(".avif", photo(60, 80))
    except cv2.error:
        pytest.skip("this OpenCV writes no AVIF")


def test_an_avif_is_as_large_as_its_frames_say_and_not_as_its_boxes_do(avif):
    at = avif.index(b"ispe") + 8
    lying = avif[:at] + struct.pack(">II", 1, 1) + avif[at + 8 :]
    assert (read_header(lying).width, read_header(lying).height) == (80, 60)
    with pytest.raises(ImageError, match="80x60 pixels is past the limit of 4000"):
        decode_image(lying, max_pixels=4000)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def packed_bits(text: str) -> bytes:
    text = text.replace(" ", "")
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


def avif_of(sequence: str, frame: str) -> bytes:
    """Return a file of one item, 100x90 by its boxes, of these bits of a sequence and a frame."""
    units = b""
    for kind, text in ((1, sequence), (6, frame)):
        content = packed_bits(text)
        units += bytes([kind << 3 | 2, len(content)]) + content
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1")
    infe = box(b"infe", b"\2\0\0\0" + struct.pack(">HH4s", 1, 0, b"av01"))
    ispe = box(b"ispe", struct.pack(">4xII", 100, 90))

    def meta(offset: int) -> bytes:
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(units))
        parts = [box(b"iloc", bytes(4) + place), box(b"iinf", bytes(4) + b"\0\1" + infe)]
        return box(b"meta", bytes(4) + b"".join(parts) + box(b"iprp", box(b"ipco", ispe)))

    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", units)


# Of 7 bits a side, 100 x 90: the largest that a frame may state is 128 x 128.
SIDES = f"{6:04b} {6:04b} {99:07b} {89:07b}"
STILL = f"000 1 1 00000 {SIDES} 000 0000"
PLAIN = f"000 0 0 0 0 00000 000000000000 00000 {SIDES} 0 000 0000 0 1 1"
NUMBERED = f"000 0 0 0 0 00000 000000000000 00000 {SIDES} 1 0001 010 000 0000 1 00 1 1 000"
TIMED = (
    f"000 0 0 1 {1:032b}{1:032b} 0 1 00011 {1:032b} 00000 00100 0 00000 000000000000 00000 0 "
    f"{SIDES} 0 000 0000 0 0 0"
)
# Frames: shown again or not, type, shown, … and whether the size is stated.
KEY = "0 00 1 0 0"  # and a bit of the tools for screens where each frame says it


@pytest.mark.parametrize(
    ("sequence", "frame", "size"),
    [
        (STILL, "1" * 40, (100, 90)),
        (PLAIN, f"{KEY} 0", (100, 90)),
        (PLAIN, f"{KEY} 1", (128, 128)),
        (PLAIN, "0 00 1 0 1 0 0", (100, 90)),
        (PLAIN, "0 00 1 0 1 0 1", (128, 128)),
        (PLAIN, "1 00 1", (100, 90)),
        (PLAIN, "0 11 1 0", (128, 128)),
        (PLAIN, "0 01 0 0 0 0 0 1", (128, 128)),
        (NUMBERED, f"{KEY} 111111 0", (100, 90)),
        (NUMBERED, f"{KEY} 000000 1", (128, 128)),
        (TIMED, "0 00 1 11111 0 0", (100, 90)),
        (TIMED, "0 00 1 00000 0 1", (128, 128)),
    ],
)
def test_an_avif_is_as_large_as_any_of_its_frames_may_be(sequence, frame, size):
    header = read_header(avif_of(sequence, frame))
    assert (header.width, header.height) == size


def test_no_changed_byte_of_an_avif_is_more_than_an_error(avif):
    for place in range(len(avif) - 200):
        for value in (0, 255):
            try:
                read_header(avif[:place] + bytes([value]) + avif[place + 1 :])
            except ImageError:
                continue


def test_of_a_film_in_an_avif_only_the_picture_reaches_the_decoder():
    features = pytest.importorskip("PIL.features")
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    data = animated("AVIF")
    assert b"moov" in data
    assert b"moov" not in read_header(data).picture
    assert decode_image(data).shape == (48, 64, 3)


def test_the_limit_on_pixels_may_come_from_the_environment(monkeypatch):
    data = make("png")
    monkeypatch.setenv("FIC_MAX_PIXELS", "3071")
    with pytest.raises(ImageError, match="64x48 pixels is past the limit of 3071 pixels"):
        decode_image(data)
    assert decode_image(data, max_pixels=3072).shape == (48, 64, 3)
    for nonsense in ("0", "-5", "many", "1" * 40):
        monkeypatch.setenv("FIC_MAX_PIXELS", nonsense)
        with pytest.raises(ImageError, match=r"FIC_MAX_PIXELS is .* set it to a number of pixels"):
            decode_image(data)
    with pytest.raises(ValueError, match="max_pixels is at least 1"):
        decode_image(data, max_pixels=0)


def test_a_jpeg_of_endless_scans_is_refused():
    data = make("jpeg progressive")
    last = data.rindex(b"\xff\xda")

    with pytest.raises(ImageError, match="has over 100 scans"):
        read_header(data[:last] + data[last:-2] * 120 + data[-2:])


TEXT_BOMB = """
import re, struct, zlib
from pathlib import Path
import cv2, numpy
from fic_runtime.images.loading import decode_image

def peak():  # in kB; ru_maxrss would start with the memory of the process that ran the tests
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

text = chunk(b"zTXt", b"k\\0\\0" + zlib.compress(b"a" * 7_900_000, 9)) * 40
text += chunk(b"iTXt", b"k\\0\\1\\0\\0\\0" + zlib.compress(b"a" * 7_900_000, 9)) * 40
plain = bytes(cv2.imencode(".png", numpy.full((8, 8, 3), 77, numpy.uint8))[1])
before = peak()
assert (decode_image(plain[:33] + text + plain[33:]) == 77).all()
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_compressed_text_in_a_png_is_never_inflated():
    run = subprocess.run(
        [sys.executable, "-c", TEXT_BOMB], capture_output=True, text=True, check=True
    )

    assert int(run.stdout) < 60  # MB; OpenCV alone takes over 600 for these 0.6 MB of file
