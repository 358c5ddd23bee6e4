"""The graph that the runtime writes by itself is valid ONNX, and computes what it should."""

import numpy as np
import onnx
import onnxruntime
import pytest

from fic_runtime.graphs.spec import GraphSpec, Tensor
from fic_runtime.heads.linear import LinearHead, linear_graph


@pytest.mark.parametrize("places", [(), (4, 5)])
def test_a_linear_graph_is_valid_and_right(places):
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(3, 2)), random.normal(size=2)
    weights = LinearHead(kernel.astype(np.float32), bias.astype(np.float32))
    spec = GraphSpec(
        file="head.onnx",
        input=Tensor(name="bottleneck", dtype="float32", shape=(None, *places, 3)),
        output=Tensor(name="probabilities", dtype="float32", shape=(None, 2)),
    )
    data = linear_graph(weights, spec, ["é", "b"])
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert {each.key: each.value for each in model.metadata_props}["labels"] == '["é", "b"]'
    given = random.normal(size=(7, *places, 3)).astype(np.float32)
    (answer,) = onnxruntime.InferenceSession(data).run(None, {"bottleneck": given})
    logits = given.reshape(7, -1, 3).mean(axis=1) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
