"""A temperature folded into a head's graph: the same answers, less or more sure."""

import numpy as np
import onnx
import onnxruntime
import pytest

from fic_export.conversion import convert_head
from fic_export.errors import ConversionError
from fic_export.fits.temperature import with_temperature
from fic_export.graphs.surgery import fold_temperature


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
    graph = convert_head(model)
    before = graph.SerializeToString()
    fold_temperature(graph, 1.0)
    assert graph.SerializeToString() == before
    with pytest.raises(ConversionError, match="not in a softmax"):
        fold_temperature(graph, 2.0)
