import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

from fic.bases import BASES, find_base
from fic.errors import BaseOptionError, UnknownBaseError

KERAS = {name: base for name, base in BASES.items() if base.package is None}


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("inceptionv3", "inception_v3"),
        ("nasnetmobile", "nasnet_mobile"),
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenet-v2-0.35", "mobilenet_v2_0.35"),
        ("MOBILENETV2_035", "mobilenet_v2_0.35"),
        ("mobilenet_v2_1.0", "mobilenet_v2"),
        ("mobilenet_v3_small_1.0", "mobilenet_v3_small"),
        ("ResNet50V2", "resnet50_v2"),
        ("EfficientNetV2-B0", "efficientnet_v2_b0"),
        ("EfficientNet-Lite0", "efficientnet_lite0"),
    ],
)
def test_case_and_separators_of_a_name_do_not_matter(spelling, name):
    assert find_base(spelling).name == name


@pytest.mark.parametrize("name", BASES)
def test_each_base_is_found_by_its_own_name(name):
    assert find_base(name) is BASES[name]


def test_an_unknown_name_gives_the_nearest_names_and_the_command_that_lists_all():
    with pytest.raises(UnknownBaseError, match=r"'mobilnet_v2'.*mobilenet_v2.*`fic bases`"):
        find_base("mobilnet_v2")


def test_a_name_like_no_other_still_says_where_the_names_are():
    with pytest.raises(UnknownBaseError, match="'qqq'; `fic bases` lists all"):
        find_base("qqq")


def test_reading_the_table_loads_nothing_heavy():
    code = "import sys, json, fic.bases.table; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert not {"numpy", "cv2", "h5py", "keras", "tensorflow"} & set(loaded)


def test_preprocessing_takes_another_size_and_geometry():
    geometry = find_base("mobilenet_v2").preprocessing(size=96, resize="crop").geometry
    assert (geometry.height, geometry.width, geometry.resize) == (96, 96, "crop")


def test_every_constructor_of_keras_applications_has_a_row():
    import keras

    constructors = {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}
    assert constructors == {base.constructor for base in KERAS.values()}


@pytest.mark.parametrize("base", KERAS.values(), ids=KERAS.keys())
def test_pixel_numbers_are_those_of_the_preprocess_input_of_keras(base, picture):
    import keras

    module = inspect.getmodule(getattr(keras.applications, base.constructor))
    # preprocess_input changes a float array in place.
    expected = module.preprocess_input(picture.astype(np.float32))
    pixels = picture[..., ::-1] if base.pixels.channel_order == "bgr" else picture
    ours = pixels * np.float32(base.pixels.scale) + np.float32(base.pixels.offset)
    assert np.abs(ours - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.fixture(scope="module")
def picture():
    """Return soft colour gradients under grain, uint8 (64, 48, 3), with all of 0..255 in it."""
    rows, columns = np.mgrid[0:1:64j, 0:1:48j]
    channels = np.stack([rows, columns * 0.8, 1 - rows * columns], axis=-1) * 255
    grain = np.random.default_rng(0).normal(0, 12, channels.shape)
    return np.clip(channels + grain, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("size", [2049, 20_000, 10**9])
def test_a_size_that_would_take_all_memory_is_refused_before_anything_is_built(size: int) -> None:
    with pytest.raises(BaseOptionError, match=f"size of {size} is too large; give at most 2048"):
        find_base("mobilenet_0.25").preprocessing(size=size)
