"""Decoding and resizing: the same right RGB pixels from every kind of picture."""

import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic_runtime.errors import ImageError, printable
from fic_runtime.images import decode_image, load_image, read_image, resize_image, to_rgb
from fic_runtime.images.picture_files import IMAGE_SUFFIXES
from fic_runtime.preprocessing import Geometry

VERSION = tuple(int(part) for part in cv2.__version__.split(".")[:2])
NEEDS_GIF = pytest.mark.skipif(VERSION < (4, 11), reason="this OpenCV reads no GIF")


def picture(height: int = 48, width: int = 64) -> Any:
    """Return smooth uint8 RGB whose four corners differ."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 250 // width, y * 250 // height, (x + y) * 250 // (width + height)]
    return np.stack(channels, -1).astype(np.uint8)


def encode(suffix: str, pixels: Any, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, list(options))[1])


def rgb_file(suffix: str, *options: int) -> bytes:
    return encode(suffix, picture()[..., ::-1], *options)


def save(image: Any, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.fixture
def pillow() -> Any:
    return pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_a_lossless_file_gives_exactly_its_pixels(suffix):
    pixels = decode_image(rgb_file(suffix))

    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, picture())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lossy_file_gives_nearly_its_pixels(suffix):
    assert np.abs(decode_image(rgb_file(suffix)).astype(int) - picture()).mean() < 3


MODES = [
    *((f, mode) for f in ("PNG", "TIFF", "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
    *((f, mode) for f in ("PNG", "TIFF") for mode in ("LA",)),
    *((f, mode) for f in ("JPEG", "TIFF") for mode in ("CMYK",)),
    *(("WEBP", mode) for mode in ("L", "RGB", "RGBA")),
    *(pytest.param("GIF", mode, marks=NEEDS_GIF) for mode in ("1", "L", "P", "RGBA")),
]


@pytest.mark.parametrize(("format", "mode"), MODES)
def test_every_mode_of_every_format_comes_out_as_rgb(pillow, format, mode):
    rgba = pillow.fromarray(np.dstack([picture(), picture()[..., 0]]))
    image = (rgba if "A" in mode else pillow.fromarray(picture())).convert(mode)
    data = save(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))

    expected = np.asarray(pillow.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 1  # CMYK rounds differently


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"big_tiff": True}),
        ("PNG", {"interlace": True}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_every_compression_is_read_like_pillow_reads_it(pillow, format, options):
    data = save(pillow.fromarray(picture()), format, **options)

    expected = np.asarray(pillow.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("format", [pytest.param("GIF", marks=NEEDS_GIF), "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(pillow, format):
    frames = [pillow.fromarray(np.roll(picture(), 16 * turn, 1)) for turn in range(3)]
    still = save(frames[0], format, **({"lossless": True} if format == "WEBP" else {}))
    options = {"lossless": True} if format == "WEBP" else {}
    moving = save(frames[0], format, save_all=True, append_images=frames[1:], **options)

    assert np.array_equal(decode_image(moving), decode_image(still))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_dropped_and_the_colour_below_it_kept(pillow, format):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:8], rgba[8:] = (200, 30, 40, 255), (10, 120, 220, 0)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}

    pixels = decode_image(save(pillow.fromarray(rgba), format, **options))

    assert np.array_equal(pixels, rgba[..., :3])


EXIF_WRITERS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("format", EXIF_WRITERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_by_its_exif_orientation(pillow, format, orientation):
    if format == "AVIF" and (VERSION < (5, 0) or not _pillow_writes_avif()):
        pytest.skip("no AVIF in this OpenCV or Pillow")
    stored = lying(picture(), orientation)
    exif = pillow.Exif()
    exif[274] = orientation
    data = save(pillow.fromarray(stored), format, exif=exif, **EXIF_WRITERS[format])

    pixels = decode_image(data)

    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - picture()).max() <= (12 if format in ("JPEG", "AVIF") else 0)


def _pillow_writes_avif() -> bool:
    return bool(pytest.importorskip("PIL.features").check("avif"))


def lying(upright: Any, orientation: int) -> Any:
    """Return the rows to store so that a viewer that honours the tag shows `upright`.

    Found by undoing what TIFF 6.0, page 36, says of each tag; independent of the code under test.
    """
    sides = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[:, ::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[::-1].swapaxes(0, 1),
    }
    return np.ascontiguousarray(sides[orientation](upright))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (48, 64, 4)])
def test_full_16_bit_samples_keep_their_upper_byte(suffix, shape):
    samples = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    samples[0, 0] = 65535

    pixels = decode_image(encode(suffix, samples))

    expected = samples[..., None].repeat(3, -1) if len(shape) == 2 else samples[..., 2::-1]
    assert np.array_equal(pixels, expected >> 8)


@pytest.mark.parametrize(("bits", "brightest"), [(10, 694), (12, 4095), (14, 16000), (8, 250)])
def test_a_sensor_tiff_with_empty_upper_bits_does_not_come_out_black(bits, brightest):
    samples = np.linspace(0, brightest, 48 * 64).astype(np.uint16).reshape(48, 64)

    pixels = decode_image(encode(".tif", samples))

    assert np.array_equal(pixels[..., 0], samples >> (bits - 8))


def test_a_tiff_of_floats_is_refused_with_the_remedy():
    data = encode(".tif", picture().astype(np.float32) / 255)

    with pytest.raises(ImageError, match=r"no agreed range; save it with unsigned 8 or 16 bits"):
        decode_image(data)


def test_the_suffix_does_not_matter_the_content_does(tmp_path):
    (tmp_path / "a.png").write_bytes(rgb_file(".bmp"))

    assert np.array_equal(read_image(tmp_path / "a.png"), picture())


@pytest.mark.parametrize("name", ["blüte 花 (1).png", "a b.png", "%s.png", "-x.png", "a.png.PNG"])
def test_any_file_name_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(rgb_file(".png"))

    assert np.array_equal(read_image(str(tmp_path / name)), picture())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jpg", "no such file"),
        ("folder", "not a file"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "not a picture"),
        ("a\0b.jpg", "cannot be read"),
        ("file/inside.jpg", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "text.jpg").write_text("no picture")

    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(printable(str(tmp_path / name)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")

    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path / "pipe.jpg")


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path):
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(2**30 + 1)  # sparse: it takes no space

    with pytest.raises(ImageError, match="past the limit of 1073741824"):
        read_image(tmp_path / "film.jpg")


@pytest.mark.parametrize(
    ("size", "target", "margin", "reduction"),
    [
        ((480, 640), (224, 224), 2.0, 1),
        ((896, 896), (224, 224), 2.0, 2),
        ((895, 896), (224, 224), 2.0, 1),
        ((896, 895), (224, 224), 2.0, 1),
        ((480, 640), (96, 96), 2.0, 2),
        ((480, 640), (60, 80), 2.0, 4),
        ((480, 640), (30, 40), 2.0, 8),
        ((480, 640), (10, 10), 2.0, 8),
        ((480, 640), (60, 80), 1.0, 8),
        ((480, 640), (10, 10), 0.0, 1),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_its_margin_allows(size, target, margin, reduction):
    data = encode(".jpg", picture(*size))
    geometry = Geometry(height=target[0], width=target[1], jpeg_margin=margin)

    pixels = decode_image(data, geometry=geometry)

    assert pixels.shape == (size[0] // reduction, size[1] // reduction, 3)


def test_the_margin_counts_the_sides_of_the_upright_picture(pillow):
    exif = pillow.Exif()
    exif[274] = 6
    data = save(pillow.fromarray(picture(200, 400)), "JPEG", exif=exif)

    assert decode_image(data, geometry=Geometry(height=100, width=50)).shape == (200, 100, 3)
    assert decode_image(data, geometry=Geometry(height=50, width=100)).shape == (400, 200, 3)


def test_only_jpeg_is_reduced():
    data = encode(".png", picture(400, 400))

    assert decode_image(data, geometry=Geometry(height=20, width=20)).shape == (400, 400, 3)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_channel_order_of_an_array_is_honoured(order, channels):
    array = np.dstack([picture(), np.full((48, 64, 1), 9, np.uint8)])[..., :channels]
    if order == "bgr":
        array = array[..., [2, 1, 0, 3][:channels]]

    assert np.array_equal(to_rgb(array, channel_order=order), picture())


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1)])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_grey_array_becomes_rgb(shape, order):
    grey = picture()[..., 0].reshape(shape)

    assert np.array_equal(to_rgb(grey, channel_order=order), picture()[..., [0, 0, 0]])


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_files_and_pil_images_know_their_channel_order(pillow, order):
    assert np.array_equal(to_rgb(rgb_file(".png"), channel_order=order), picture())
    assert np.array_equal(to_rgb(pillow.fromarray(picture()), channel_order=order), picture())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_read(kind):
    assert np.array_equal(to_rgb(kind(rgb_file(".png"))), picture())


VIEWS = {
    "every second pixel": lambda a: a[::2, ::2],
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "transposed": lambda a: a.swapaxes(0, 1),
    "fortran order": np.asfortranarray,
    "cropped": lambda a: a[5:20, 7:30],
    "channels reversed": lambda a: a[..., ::-1],
}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_strided_and_read_only_array_gives_what_its_copy_gives(view, order):
    array = VIEWS[view](picture())
    before = array.copy()
    array.flags.writeable = False
    geometry = Geometry(height=20, width=30)

    loaded = load_image(array, geometry, channel_order=order)

    assert np.array_equal(loaded, load_image(before, geometry, channel_order=order))
    assert np.array_equal(array, before)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_result_never_shares_memory_with_the_input(resize, order):
    array = picture()
    geometry = Geometry(height=48, width=64, resize=resize, crop_fraction=1.0)

    loaded = load_image(array, geometry, channel_order=order)

    assert not np.shares_memory(loaded, array)
    assert np.array_equal(array, picture())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 of shape \(8, 8, 3\); for values in 0..1 use"),
        (np.full((8, 8, 3), np.nan), "float64"),
        (np.zeros((8, 8), bool), r"bool of shape .* \* 255"),
        (np.zeros((8, 8, 3), np.uint16), "uint16.*scale it to 0..255"),
        (np.zeros((8, 8, 3), np.int64), "int64.*scale it to 0..255"),
        (np.zeros((8, 8, 3), object), "object"),
        (np.zeros((3, 8, 8), np.uint8), r"received uint8 of shape \(3, 8, 8\).*channels last"),
        (np.zeros((1, 8, 8, 3), np.uint8), "one image at a time"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
        (np.uint8(3), r"\(\)"),
        (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
        (np.zeros((0, 0), np.uint8), "at least one pixel"),
        (None, "the image is None"),
    ],
)
def test_a_wrong_array_is_refused_with_what_is_expected_and_received(array, message):
    with pytest.raises(ImageError, match=message):
        to_rgb(array)


@pytest.mark.parametrize("wrong", [7, [1, 2], {"a": 1}, object()])
def test_a_wrong_type_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="open file, a uint8 array or a PIL image; received"):
        to_rgb(wrong)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "RGB"])
def test_a_pil_image_of_any_mode_is_read(pillow, mode):
    base = pillow.fromarray(picture())
    image = base.convert("RGBA").convert(mode) if mode == "LA" else base.convert(mode)

    assert np.array_equal(to_rgb(image), np.asarray(image.convert("RGB")))


def test_a_pil_image_of_a_file_gives_what_the_file_gives(pillow):
    exif = pillow.Exif()
    exif[274] = 6
    data = save(pillow.fromarray(picture()), "PNG", exif=exif)

    assert np.array_equal(to_rgb(pillow.open(io.BytesIO(data))), decode_image(data))


def test_a_pil_image_of_16_bits_is_not_clipped(pillow):
    samples = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)

    assert np.array_equal(to_rgb(pillow.fromarray(samples))[..., 1], samples >> 8)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_pil_image_without_an_agreed_range_is_refused(pillow, mode):
    with pytest.raises(ImageError, match=f"mode {mode} has no agreed range"):
        to_rgb(pillow.fromarray(picture()[..., 0]).convert(mode))


def test_a_pil_image_of_a_truncated_file_is_refused(pillow):
    data = rgb_file(".png")

    with pytest.raises(ImageError, match="cannot be decoded"):
        to_rgb(pillow.open(io.BytesIO(data[: len(data) // 2])))


SIZES = [(10, 10), (48, 64), (33, 21), (100, 30), (20, 200), (128, 128), (1, 1)]


@pytest.mark.parametrize("target", SIZES)
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_the_target_size_is_met_by_every_resize(resize, target):
    geometry = Geometry(height=target[0], width=target[1], resize=resize)

    for size in ((48, 64), (64, 48), (1, 1), (1, 300), (300, 1)):
        resized = resize_image(picture(*size), geometry)
        assert resized.shape == (*target, 3)
        assert resized.flags.c_contiguous


def test_shrinking_averages_the_area():
    board = np.indices((64, 64)).sum(0) % 2 * 200  # linear would pick single pixels of a board
    image = np.dstack([board] * 3).astype(np.uint8)

    assert (resize_image(image, Geometry(height=16, width=16)) == 100).all()


def test_growing_interpolates_between_the_pixels():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200

    row = resize_image(image, Geometry(height=8, width=8))[4, :, 0]

    assert row[0] == 0
    assert row[-1] == 200
    assert len(set(row.tolist())) > 3
    assert (np.diff(row.astype(int)) >= 0).all()


@pytest.mark.parametrize("transpose", [False, True])
def test_an_axis_that_shrinks_is_averaged_even_if_the_other_grows(transpose):
    image = np.zeros((4, 64, 3), np.uint8)
    image[:, ::2] = 200
    geometry = Geometry(height=16, width=16)
    if transpose:
        image = np.ascontiguousarray(image.swapaxes(0, 1))

    assert (resize_image(image, geometry) == 100).all()


def test_the_same_size_changes_no_pixel():
    for resize in ("stretch", "pad"):
        geometry = Geometry(height=48, width=64, resize=resize)
        assert np.array_equal(resize_image(picture(), geometry), picture())


def test_crop_takes_the_central_part_with_the_aspect_ratio_of_the_target():
    image = picture(40, 80)

    cropped = resize_image(image, Geometry(height=20, width=20, resize="crop", crop_fraction=0.5))

    assert np.array_equal(cropped, image[10:30, 30:50])


def test_crop_of_seven_eighths_is_the_usual_256_to_224():
    image = picture(256, 256)

    cropped = resize_image(image, Geometry(height=224, width=224, resize="crop"))

    assert np.array_equal(cropped, image[16:240, 16:240])


def test_pad_fits_the_whole_picture_into_the_middle_of_black():
    image = np.full((20, 40, 3), 200, np.uint8)

    padded = resize_image(image, Geometry(height=40, width=40, resize="pad"))

    assert (padded[10:30] == 200).all()
    assert not padded[:10].any()
    assert not padded[30:].any()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_row_of_a_batch_is_written_in_place(resize):
    batch = np.full((3, 20, 30, 3), 7, np.uint8)
    geometry = Geometry(height=20, width=30, resize=resize)

    returned = load_image(picture(), geometry, out=batch[1])

    assert np.shares_memory(returned, batch)
    assert np.array_equal(batch[1], load_image(picture(), geometry))
    assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((20, 31, 3), np.uint8),
        np.zeros((20, 30, 3), np.float32),
        np.zeros((20, 60, 3), np.uint8)[:, ::2],
    ],
)
def test_a_place_that_does_not_fit_is_a_value_error(out):
    with pytest.raises(ValueError, match=r"contiguous uint8 of shape \(20, 30, 3\)"):
        resize_image(picture(), Geometry(height=20, width=30), out=out)


def test_path_bytes_and_array_give_the_same_input_of_the_base(tmp_path):
    (tmp_path / "a.png").write_bytes(rgb_file(".png"))
    geometry = Geometry(height=32, width=32)

    from_path = load_image(tmp_path / "a.png", geometry)

    assert np.array_equal(load_image(rgb_file(".png"), geometry), from_path)
    assert np.array_equal(load_image(picture(), geometry), from_path)


def test_the_listed_suffixes_are_lower_case_and_hold_the_usual_ones():
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"} <= IMAGE_SUFFIXES


def test_opencv_is_imported_only_when_a_picture_is_decoded():
    code = (
        "import sys, fic_runtime.images.loading; print('cv2' in sys.modules, 'PIL' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]


SEEDS = {
    "jpeg": (".jpg",),
    "progressive jpeg": (".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": (".png",),
    "bmp": (".bmp",),
    "tiff": (".tif",),
    "webp": (".webp",),
    "ppm": (".ppm",),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_file_gives_pixels_or_an_image_error(kind):
    suffix, *options = SEEDS[kind]
    original = encode(suffix, picture(24, 32), *options)
    chance = random.Random(kind)
    decoded = 0

    for _ in range(150):
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 3, 20))):
            position = chance.randrange(min(len(data), chance.choice((40, 200, len(data)))))
            if chance.random() < 0.8:
                data[position] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            else:
                data[position:position] = chance.randbytes(2)
        try:
            pixels = decode_image(bytes(data), max_pixels=2**20)
        except ImageError as error:
            assert "\n" not in str(error)
            continue
        decoded += 1
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.size
    assert decoded < 150


def test_a_path_like_object_is_a_path(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(rgb_file(".png"))

    class Here:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.png")

    assert np.array_equal(to_rgb(Here()), picture())


class Upload:
    """What frameworks whose uploads are read with await hand over."""

    def __init__(self, file):
        self.file = file
        self.filename = "photo.png"

    async def read(self):
        return self.file.read()


def test_an_open_file_and_an_upload_are_pictures(golden):
    wanted = to_rgb(golden / "small.png")
    content = (golden / "small.png").read_bytes()
    with (golden / "small.png").open("rb") as file:
        for source in (file, file, io.BytesIO(content), Upload(io.BytesIO(content))):
            np.testing.assert_array_equal(to_rgb(source), wanted)


def test_a_file_that_cannot_be_rewound_is_read_once(golden):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        sink.write((golden / "small.png").read_bytes())
        sink.close()
        assert to_rgb(source).ndim == 3


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (io.StringIO("text"), "gives str and not bytes; open it with mode 'rb'"),
        (io.BytesIO(b""), "nothing is left to read"),
        (io.BytesIO(b"no picture"), "an open file: "),
        (Upload(None), r"photo\.png: "),
    ],
)
def test_a_file_that_holds_no_picture_is_one_sentence(source, says):
    if isinstance(source, Upload):
        del source.file
    with pytest.raises(ImageError, match=says):
        to_rgb(source)


def test_a_closed_file_is_one_sentence(golden):
    with (golden / "small.png").open("rb") as file:
        pass
    with pytest.raises(ImageError, match="cannot be read"):
        to_rgb(file)
