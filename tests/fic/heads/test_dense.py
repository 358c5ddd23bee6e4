"""Heads of dense layers without Keras, against the same head in Keras."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fic.heads.building import Statistics, parse_head
from fic.heads.dense import DenseHead, build_dense
from fic.heads.dense_files import read_dense, read_weights, to_keras, write_dense
from fic.heads.keras_random import layer_seeds, uniform

STATISTICS = Statistics(mean=np.arange(4.0), variance=np.full(4, 9.0))
KINDS = [("linear", (4,)), ("mlp:7,0.25", (4,)), ("linear", (3, 2, 4)), ("mlp:7", (3, 2, 4))]


def make_head(kind: str = "mlp:7,0.25", shape: tuple[int, ...] = (4,)) -> DenseHead:
    return build_dense(parse_head(kind), shape, 3, STATISTICS, seed=5)


def some(shape: tuple[int, ...]) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)


def test_a_linear_head_standardises_half_way_and_classifies() -> None:
    head = make_head("linear")
    kernel, bias = head.weights
    features = (some((4,)) - STATISTICS.mean) / np.sqrt(9.0 + 9.0)
    expected = keras.ops.softmax(features @ kernel + bias)
    np.testing.assert_allclose(head.predict_on_batch(some((4,))), expected, atol=1e-5)


def test_an_mlp_has_a_hidden_layer_of_the_width_and_dropout_given() -> None:
    head = make_head("mlp:7,0.25")
    assert [array.shape for array in head.weights] == [(4, 7), (7,), (7, 3), (3,)]
    assert head.dropout == 0.25


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_keras_opens_the_file_and_gives_the_same_answers(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    head = make_head(kind, shape)
    write_dense(head, tmp_path / "head.keras")
    model = keras.models.load_model(tmp_path / "head.keras")
    assert (model.input_shape, model.output_shape) == (head.input_shape, head.output_shape)
    np.testing.assert_allclose(
        model.predict_on_batch(some(shape)), head.predict_on_batch(some(shape)), atol=1e-6
    )


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_a_file_that_keras_wrote_is_read_without_it(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    head = make_head(kind, shape)
    to_keras(head).save(tmp_path / "head.keras")
    to_keras(head).save_weights(tmp_path / "only.weights.h5")
    found = read_dense(tmp_path / "head.keras")
    weights = read_weights(make_head(kind, shape), tmp_path / "only.weights.h5")
    assert found is not None and weights is not None
    for name in ("shape", "scale", "dropout"):
        assert getattr(found, name) == getattr(head, name)
    arrays = ((each.mean, each.variance, *each.weights) for each in (found, head))
    for mine, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(weights.weights, head.weights, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_same_head_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dense(make_head(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def custom(**last: Any) -> keras.Model:
    """Return a head that looks much like a linear one."""
    bottleneck = keras.Input((4,), name="bottleneck")
    unit = keras.layers.Rescaling(1.0)(bottleneck)
    features = keras.layers.Normalization(mean=np.zeros(4), variance=np.ones(4))(unit)
    return keras.Model(
        bottleneck, keras.layers.Dense(3, **{"activation": "softmax", **last})(features)
    )


@pytest.mark.parametrize(
    ("head", "is_read"),
    [
        (custom(), True),
        (custom(activation="sigmoid"), False),
        (custom(use_bias=False), False),
        (custom(dtype="float16"), False),
        (custom(kernel_regularizer="l2"), False),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]), False),
    ],
)
def test_what_a_dense_head_cannot_be_is_left_to_keras(
    tmp_path: Path, head: keras.Model, is_read: bool
) -> None:
    head.save(tmp_path / "head.keras")
    assert (read_dense(tmp_path / "head.keras") is not None) == is_read


def test_damaged_files_are_left_to_keras(tmp_path: Path) -> None:
    write_dense(make_head(), tmp_path / "head.keras")
    data = (tmp_path / "head.keras").read_bytes()
    for number, damaged in enumerate((b"", b"hello", data[:-30], data[: len(data) // 2])):
        file = tmp_path / f"{number}.keras"
        file.write_bytes(damaged)
        assert read_dense(file) is None
    assert read_dense(tmp_path / "nowhere.keras") is None


def test_first_weights_and_dropout_are_those_that_keras_draws() -> None:
    keras.utils.set_random_seed(5)
    hidden = keras.layers.Dense(7)
    hidden.build((None, 4))
    dropout = keras.layers.Dropout(0.25)
    last = keras.layers.Dense(3)
    last.build((None, 7))
    head = make_head()
    for mine, other in zip(head.weights, hidden.get_weights() + last.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    for call in range(3):
        kept = np.asarray(dropout(np.ones((5, 7), np.float32), training=True)) > 0
        drawn = uniform(layer_seeds(5, 2)[1], call, 35).reshape(5, 7)
        np.testing.assert_array_equal(kept, drawn >= 0.25)
