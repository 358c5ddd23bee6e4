"""Probabilities that say how often they are right, by one temperature in the head's graph."""

import numpy as np
import onnx
import onnxruntime
import pytest

import fic_export
from fic_export.conversion import convert_head
from fic_export.errors import ConversionError
from fic_export.fits.temperature import (
    Calibration,
    ends_in_softmax,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    with_temperature,
)
from fic_export.graphs.surgery import fold_temperature
from fic_runtime.bundle import open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def answers(count, *, sharpness, seed=0):
    """Return probabilities that are `sharpness` times too sure, with the true labels."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((count, 4))
    targets = np.array([random.choice(4, p=row) for row in softmax(logits)])
    return softmax(sharpness * logits).astype(np.float32), targets


def test_the_error_is_the_mean_gap_between_sure_and_right():
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6], np.float32)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    targets = np.array([0, 0, 0, 1, 1, 1])
    # 4 of 0.9, three right: 0.15; 2 of 0.6, none right: 0.6.
    expected = (4 * 0.15 + 2 * 0.6) / 6
    assert expected_calibration_error(probabilities, targets) == pytest.approx(expected)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_is_how_much_too_sure_the_answers_are(sharpness):
    probabilities, targets = answers(4000, sharpness=sharpness)
    assert fit_temperature(np.log(probabilities), targets) == pytest.approx(sharpness, rel=0.1)


@pytest.mark.parametrize("right", [True, False])
def test_a_few_pictures_of_one_mind_do_not_send_the_temperature_away(right):
    logits = np.log(np.tile([[0.9, 0.1]], (6, 1)))
    targets = np.full(6, 0 if right else 1)
    assert 1 / 5 < fit_temperature(logits, targets) < 8


def test_answers_that_are_too_sure_become_better_on_pictures_not_fitted_on():
    found = fit_calibration(*answers(300, sharpness=3.0))
    assert found.temperature == found.fitted == pytest.approx(3.0, rel=0.3)
    assert found.ece_after < 0.6 * found.ece_before
    assert found.loss_after < found.loss_before
    assert found.pictures == 300


def test_answers_that_are_right_as_often_as_they_say_stay_as_they_are():
    found = fit_calibration(*answers(300, sharpness=1.0))
    assert found.temperature == 1.0
    assert found.fitted != 1.0
    assert found.reason == "no better on held-out validation pictures"


def test_few_pictures_are_no_measure():
    found = fit_calibration(*answers(49, sharpness=3.0))
    assert (found.temperature, found.fitted) == (1.0, None)
    assert "fewer than 50" in found.reason


def test_the_order_of_the_labels_stays_and_zeros_are_no_trouble():
    probabilities = np.array([[1, 0, 0], [0.5, 0.3, 0.2]], np.float32)
    found = with_temperature(probabilities, 2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert found.argmax(axis=1).tolist() == [0, 0]
    roots = np.sqrt(probabilities[1])
    np.testing.assert_allclose(found[1], roots / roots.sum(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_temperature_is_positive(value):
    with pytest.raises(ValueError, match="positive and finite"):
        Calibration(temperature=value)


def head(kind):
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    stacks = {
        "linear": [layers.Dense(3, activation="softmax", bias_initializer="ones")],
        "no bias": [layers.Dense(3, use_bias=False), layers.Softmax()],
        "hidden": [layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")],
        "layer between": [layers.Dense(3), layers.LayerNormalization(), layers.Softmax()],
        "sigmoid": [layers.Dense(3, activation="sigmoid")],
    }
    return keras.Sequential([keras.Input((6,)), *stacks[kind]])


@pytest.mark.parametrize("kind", ["linear", "no bias", "hidden", "layer between"])
def test_the_graph_divides_its_logits(kind):
    model = head(kind)
    assert ends_in_softmax(model)
    graph = convert_head(model)
    nodes = len(graph.graph.node)
    fold_temperature(graph, 2.5)
    onnx.checker.check_model(graph, full_check=True)
    # Weights take it in where they are the last step before the softmax.
    assert len(graph.graph.node) - nodes == (1 if kind == "layer between" else 0)
    inputs = np.random.default_rng(0).standard_normal((5, 6), np.float32)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"bottleneck": inputs})
    expected = with_temperature(np.asarray(model.predict_on_batch(inputs)), 2.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_head_without_softmax_is_refused_and_left_alone_at_one():
    model = head("sigmoid")
    assert not ends_in_softmax(model)
    graph = convert_head(model)
    before = graph.SerializeToString()
    fold_temperature(graph, 1.0)
    assert graph.SerializeToString() == before
    with pytest.raises(ConversionError, match="not in a softmax"):
        fold_temperature(graph, 2.0)


def test_a_bundle_is_compared_at_its_temperature_and_says_it(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(inputs)
    base = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(features))
    preprocessing = Preprocessing(geometry=Geometry(height=16, width=16), pixels=Pixels())
    made = {}
    for name, calibration in (("plain", None), ("flat", Calibration(temperature=4.0))):
        manifest = fic_export.export_bundle(
            base,
            head("linear"),
            labels=("a", "b", "c"),
            preprocessing=preprocessing,
            calibration=calibration,
            out=tmp_path / name,
        )
        assert manifest.parity["largest_difference"] < 1e-5
        picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        with Classifier(tmp_path / name, device="cpu") as classifier:
            made[name] = classifier.predict(picture)
    assert open_bundle(tmp_path / "plain").manifest.calibration == {}
    assert open_bundle(tmp_path / "flat").manifest.calibration["temperature"] == 4.0
    assert made["plain"].label == made["flat"].label
    expected = with_temperature(made["plain"].probabilities[None], 4.0)[0]
    np.testing.assert_allclose(made["flat"].probabilities, expected, atol=1e-5)
