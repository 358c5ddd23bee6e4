"""A base in 16-bit floating point: what is in it, and that it computes nearly the same."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fic_export.quantization.fp16 import convert_to_half
from fic_runtime.graphs.graph import Graph


@pytest.fixture(scope="module")
def half(graph):
    return convert_to_half(graph)


def test_weights_of_fp16_are_float16_and_pixels_are_not(half):
    kinds = {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {TensorProto.FLOAT16}
    scale = next(node for node in half.graph.node if node.op_type == "Mul").input[1]
    assert {t.data_type for t in half.graph.initializer if t.name == scale} == {TensorProto.FLOAT}


def test_ends_and_operator_sets_are_those_of_float32(graph, half):
    onnx.checker.check_model(half, full_check=True)
    for ends in ("input", "output"):
        (ours,), (theirs,) = (getattr(model.graph, ends) for model in (half, graph))
        assert (ours.name, ours.type.tensor_type.elem_type) == (
            theirs.name,
            theirs.type.tensor_type.elem_type,
        )
    assert [opset.domain for opset in half.opset_import] == [""]


def test_a_base_in_fewer_bits_gives_nearly_the_same(graph, half, images):
    expected, found = (
        Graph(model.SerializeToString(), device="cpu").run(np.stack(images))
        for model in (graph, half)
    )
    assert 0 < np.abs(found - expected).max() < 0.005 * np.abs(expected).max()


def test_the_same_base_gives_the_same_bytes(graph, half):
    again = convert_to_half(graph)
    assert again.SerializeToString(deterministic=True) == half.SerializeToString(deterministic=True)
