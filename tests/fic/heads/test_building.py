from pathlib import Path

import keras
import numpy as np
import pytest

from fic.errors import HeadError
from fic.heads.building import HeadChoice, Statistics, parse_head, rest_head

STATISTICS = Statistics(mean=np.arange(4.0), variance=np.full(4, 9.0))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("linear", HeadChoice(kind="linear")),
        ("rest", HeadChoice(kind="rest")),
        ("mlp", HeadChoice(kind="mlp")),
        ("mlp:64", HeadChoice(kind="mlp", units=64)),
        ("mlp:64,0.25", HeadChoice(kind="mlp", units=64, dropout=0.25)),
        ("mlp:64,0", HeadChoice(kind="mlp", units=64, dropout=0.0)),
        ("a/b.py:make", HeadChoice(kind="custom", file=Path("a/b.py"), function="make")),
        (r"C:\a.py:make", HeadChoice(kind="custom", file=Path(r"C:\a.py"), function="make")),
    ],
)
def test_every_form_of_a_head_is_understood(text: str, choice: HeadChoice) -> None:
    assert parse_head(text) == choice


@pytest.mark.parametrize(
    "text",
    ["", "dense", "Linear", "mlp:", "mlp:0", "mlp:8,1", "mlp:8,-1", "mlp:a", "a.py", "a.py:b c"],
)
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(HeadError, match="head '"):
        parse_head(text)


def test_the_rest_of_a_base_comes_before_the_classifier() -> None:
    bottleneck = keras.Input((2, 2, 5))
    vector = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 1)(bottleneck))
    rest = keras.Model(bottleneck, vector)
    head = rest_head(rest, 3, STATISTICS)
    assert (head.input_shape, head.output_shape) == ((None, 2, 2, 5), (None, 3))
    assert rest.layers[1] in head.layers


@pytest.mark.parametrize("text", ["mlp:65537", "mlp:999999999", "mlp:" + "9" * 5000])
def test_a_hidden_layer_that_takes_all_memory_is_refused(text: str) -> None:
    with pytest.raises(HeadError, match="head 'mlp"):
        parse_head(text)
