import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.bases.preprocessor import RULES, find_config, find_image_size, read_processor
from fic.errors import BaseOptionError

VIT: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.25, 0.2],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 224, "width": 224},
}
CLIP = VIT | {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 256},
}
TIMM = {
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 0.9,
    }
}


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Return a function that writes a config and returns its path."""

    def write(values: Any, name: str = "preprocessor_config.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(values))
        return path

    return write


@pytest.mark.parametrize(
    ("values", "size", "resize", "fraction"),
    [
        (VIT, 224, "stretch", None),
        (VIT | {"size": 192}, 192, "stretch", None),
        (CLIP, 224, "crop", 224 / 256),
        (CLIP | {"size": 224, "crop_size": 224}, 224, "crop", 1.0),
        (VIT | {"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, "crop", 224 / 256),
        (VIT | {"size": {"shortest_edge": 384}, "crop_pct": 0.9}, 384, "stretch", None),
        (TIMM, 224, "crop", 224 / 248),
    ],
)
def test_the_size_of_a_config_becomes_the_runtimes_geometry(
    values: Any, size: int, resize: str, fraction: float | None, config: Any
) -> None:
    geometry = read_processor(config(values)).geometry
    assert geometry is not None
    assert (geometry.height, geometry.width, geometry.resize) == (size, size, resize)
    assert fraction is None or geometry.crop_fraction == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(128 / 255 - 0.5) / 0.5, (64 / 255 - 0.4) / 0.25, (255 / 255 - 0.3) / 0.2]),
        ({"do_normalize": False}, [128 / 255, 64 / 255, 1.0]),
        ({"do_rescale": False, "do_normalize": False}, [128, 64, 255]),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, None),
        ({"do_flip_channel_order": True, "do_normalize": False}, [1.0, 64 / 255, 128 / 255]),
    ],
)
def test_the_pixels_of_a_config_are_done_in_its_steps_and_in_one(
    changes: dict[str, Any], expected: list[float] | None, config: Any
) -> None:
    rule = read_processor(config(VIT | changes)).rule
    pixels = np.array([[128, 64, 255]], np.uint8)
    if expected is None:
        expected = [128 / 127.5 - 1, 64 / 127.5 - 1, 1.0]
    assert rule.apply(pixels)[0] == pytest.approx(expected, abs=1e-6)
    assert rule.pixels.apply(pixels.astype(np.float32))[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"do_thumbnail": True}, "do_thumbnail"),
        ({"resample": 0}, "resample"),
        ({"size": {"longest_edge": 224}}, "size by the longest edge"),
        ({"size": {"shortest_edge": 224}}, "size by the shortest edge"),
        ({"size": 224, "image_processor_type": "OtherImageProcessor"}, "size 224"),
        ({"size": "large"}, "size is not"),
        ({"size": None}, "size is missing"),
        ({"do_center_crop": True, "crop_size": 192}, "crop_size"),
        ({"image_mean": None}, "image_mean is missing"),
        ({"image_std": [1, 0, 1]}, "image_std holds a zero"),
        ({"image_mean": [1, 2]}, "image_mean is not three numbers"),
        ({"rescale_factor": "1/255"}, "rescale_factor is not a number"),
        ({"include_top": True}, "include_top"),
    ],
)
def test_what_the_runtime_cannot_do_is_refused_by_its_key(
    changes: dict[str, Any], key: str, config: Any
) -> None:
    with pytest.raises(BaseOptionError, match=key) as error:
        read_processor(config(VIT | changes))
    assert "preprocessor_config.json" in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "\udcff"])
def test_a_config_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BaseOptionError, match="give --preprocessor"):
        read_processor(path)


def test_the_config_of_a_processor_comes_before_that_of_a_model(
    config: Any, tmp_path: Path
) -> None:
    assert find_config(tmp_path) is None
    model = config({"image_size": 336, "vision_config": {}}, "config.json")
    assert find_config(tmp_path) is None
    assert find_image_size(tmp_path) == 336
    config(TIMM, "config.json")
    assert find_config(tmp_path) == model
    assert find_config(config(VIT).parent) == tmp_path / "preprocessor_config.json"


def test_the_names_of_rules_are_those_that_publishers_mean() -> None:
    ends = {
        name: rule.apply(np.array([[0, 0, 0], [255] * 3], np.uint8)) for name, rule in RULES.items()
    }
    assert ends["symmetric"][0].tolist() == [-1, -1, -1]
    assert ends["symmetric"][1].tolist() == [1, 1, 1]
    assert ends["unit"][1].tolist() == [1, 1, 1]
    assert ends["raw"][1].tolist() == [255, 255, 255]
    assert ends["imagenet"][0][0] == pytest.approx(-2.1179, abs=1e-4)
    assert ends["clip"][0][0] == pytest.approx(-1.7923, abs=1e-4)
