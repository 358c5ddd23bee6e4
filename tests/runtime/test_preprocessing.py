"""The numbers that travel with a bundle: read, checked, applied."""

import numpy as np
import pytest

from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

CAFFE = Preprocessing(
    geometry=Geometry(height=224, width=192, resize="pad", crop_fraction=1.0, jpeg_margin=0.0),
    pixels=Pixels(channel_order="bgr", offset=(-103.939, -116.779, -123.68)),
)


def test_reading_what_was_written_gives_the_same():
    assert Preprocessing.from_dict(CAFFE.to_dict()) == CAFFE


def test_scale_and_offset_are_in_the_order_of_the_channels():
    pixels = Pixels(channel_order="bgr", scale=(1.0, 10.0, 100.0), offset=(0.5, 0.25, 0.125))
    red_green_blue = np.array([[[1, 2, 3]]], np.float32)
    assert pixels.apply(red_green_blue).tolist() == [[[3.5, 20.25, 100.125]]]


def test_pixels_stay_float32():
    result = Pixels(scale=(0.1, 0.2, 0.3)).apply(np.ones((2, 2, 3), np.float32))
    assert result.dtype == np.float32


def test_applying_leaves_the_input_alone():
    pixels = np.ones((2, 2, 3), np.float32)
    CAFFE.pixels.apply(pixels)
    assert (pixels == 1).all()


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("geometry", "height", "224", "'224' is not a number of pixels"),
        ("geometry", "height", 224.0, "is not a number of pixels"),
        ("geometry", "width", 0, "0 is not a number of pixels"),
        ("geometry", "width", True, "is not a number of pixels"),
        ("geometry", "crop_fraction", 0, r"crop_fraction 0.0 is not in \(0, 1\]"),
        ("geometry", "crop_fraction", 1.1, r"is not in \(0, 1\]"),
        ("geometry", "crop_fraction", float("nan"), "nan is not a number"),
        ("geometry", "crop_fraction", None, "None is not a number"),
        ("geometry", "jpeg_margin", -1, "is neither 0 nor at least 1"),
        ("geometry", "jpeg_margin", 0.5, "is neither 0 nor at least 1"),
        ("geometry", "jpeg_margin", 10**400, "too large"),
        ("geometry", "resize", ["stretch"], "is unknown to this runtime"),
        ("geometry", "rotate", 90, "the geometry's rotate is unknown .* upgrade fic-runtime"),
        ("pixels", "channel_order", "yuv", "channel order 'yuv' is unknown to this runtime"),
        ("pixels", "scale", [1, 2], "should be three numbers"),
        ("pixels", "scale", 1, "should be three numbers"),
        ("pixels", "scale", "123", "should be three numbers"),
        ("pixels", "offset", [1, 2, float("inf")], "inf is not a number"),
        ("pixels", "offset", [1, 2, "3"], "'3' is not a number"),
    ],
)
def test_number_out_of_range_is_refused(part, field, value, message):
    values = CAFFE.to_dict()
    values[part][field] = value
    with pytest.raises(BundleError, match=rf"^preprocessing: .*{message}"):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize("part", ["geometry", "pixels"])
@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_part_that_is_no_object_is_refused(part, value):
    with pytest.raises(BundleError, match=r"^preprocessing: "):
        Preprocessing.from_dict({**CAFFE.to_dict(), part: value})


@pytest.mark.parametrize(
    ("part", "field"),
    [(part, field) for part, values in CAFFE.to_dict().items() for field in values],
)
def test_missing_number_is_named(part, field):
    values = CAFFE.to_dict()
    del values[part][field]
    with pytest.raises(BundleError, match=f"'{field}' is missing; export the bundle again"):
        Preprocessing.from_dict(values)
