"""A base in 8-bit integers: what is in it, and that it computes nearly the same."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fic_export.errors import ConversionError
from fic_export.graphs.surgery import fold_pads
from fic_export.quantization.int8 import correct_biases, quantize_int8, rounded
from fic_runtime.graphs.graph import Graph


@pytest.fixture(scope="module")
def int8(graph, images):
    return quantize_int8(graph, images)


def operators(model):
    return {node.op_type for node in model.graph.node}


def test_weights_of_int8_are_int8_with_a_scale_for_each_channel(int8):
    constants = {tensor.name: tensor for tensor in int8.graph.initializer}
    readers = {node.output[0]: node for node in int8.graph.node}
    for node in int8.graph.node:
        if node.op_type == "Conv":
            kernel, scale = (constants[name] for name in readers[node.input[1]].input[:2])
            assert kernel.data_type == TensorProto.INT8
            assert list(scale.dims) == [kernel.dims[0]]
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators(int8)


def test_what_flows_between_the_layers_is_uint8(int8):
    constants = {tensor.name: tensor for tensor in int8.graph.initializer}
    zeros = [
        constants[node.input[2]] for node in int8.graph.node if node.op_type == "QuantizeLinear"
    ]
    assert {zero.data_type for zero in zeros} == {TensorProto.UINT8}


def test_the_pixel_arithmetic_stays_float32(int8):
    before = []
    for node in int8.graph.node:
        if node.op_type == "QuantizeLinear":
            break
        before.append(node.op_type)
    assert before[:3] == ["Cast", "Mul", "Add"]


def test_ends_and_operator_sets_are_those_of_float32(graph, int8):
    onnx.checker.check_model(int8, full_check=True)
    for ends in ("input", "output"):
        (ours,), (theirs,) = (getattr(model.graph, ends) for model in (int8, graph))
        assert (ours.name, ours.type.tensor_type.elem_type) == (
            theirs.name,
            theirs.type.tensor_type.elem_type,
        )
    assert [opset.domain for opset in int8.opset_import] == [""]


def test_a_base_in_fewer_bits_gives_nearly_the_same(graph, int8, images):
    expected, found = (
        Graph(model.SerializeToString(), device="cpu").run(np.stack(images))
        for model in (graph, int8)
    )
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_same_base_and_pictures_give_the_same_bytes(graph, int8, images):
    again = quantize_int8(graph, images)
    assert again.SerializeToString(deterministic=True) == int8.SerializeToString(deterministic=True)


def test_int8_wants_pictures_and_something_to_quantize(graph, images):
    with pytest.raises(ValueError, match="images is empty"):
        quantize_int8(graph, [])
    nothing = onnx.ModelProto()
    nothing.CopyFrom(graph)
    del nothing.graph.node[1:]
    with pytest.raises(ConversionError, match="no convolution"):
        quantize_int8(nothing, images)


def convolution(*, pad_mode="constant", pad_value=0.0):
    """Return a graph: pad by one on each side, then convolve 2 channels by 3 kernels."""
    random = np.random.default_rng(0)
    constants = {
        "kernel": random.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "sides": np.array([0, 0, 1, 2, 0, 0, 3, 4], np.int64),
        "value": np.array(pad_value, np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["x", "sides", "value"], ["padded"], mode=pad_mode, name="pad"),
        helper.make_node("Conv", ["padded", "kernel"], ["y"], name="conv"),
    ]
    ends = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3, None, None]),
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def evaluate(model, x):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def test_zeros_around_a_picture_move_into_the_convolution():
    model = convolution()
    x = np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)
    expected = evaluate(model, x)
    fold_pads(model.graph)
    assert operators(model) == {"Conv"}
    np.testing.assert_allclose(evaluate(model, x), expected, atol=1e-5)


@pytest.mark.parametrize("other", [{"pad_mode": "reflect"}, {"pad_value": 1.0}])
def test_padding_that_is_not_zero_stays(other):
    model = convolution(**other)
    fold_pads(model.graph)
    assert operators(model) == {"Pad", "Conv"}


def pool(*, above):
    """Return a graph as the export leaves it: `above`, pad, the guard of the pool, pool."""
    constants = {
        "sides": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "zero": np.array(0, np.float32),
        "lowest": np.array(np.finfo(np.float32).min, np.float32),
    }
    nodes = [
        helper.make_node(above, ["x"], ["above"]),
        helper.make_node("Pad", ["above", "sides", "zero"], ["padded"]),
        helper.make_node("Max", ["padded", "lowest"], ["guarded"]),
        helper.make_node("MaxPool", ["guarded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    ends = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2, None, None]),
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_zeros_after_a_relu_move_into_the_pool():
    model = pool(above="Relu")
    x = np.random.default_rng(1).normal(-1, 1, size=(1, 2, 8, 8)).astype(np.float32)
    expected = evaluate(model, x)
    fold_pads(model.graph)
    assert operators(model) == {"Relu", "MaxPool"}
    np.testing.assert_array_equal(evaluate(model, x), expected)


def test_zeros_around_what_may_be_negative_stay_outside_the_pool():
    model = pool(above="Neg")
    fold_pads(model.graph)
    assert operators(model) == {"Neg", "Pad", "Max", "MaxPool"}


@pytest.mark.parametrize("bias", [True, False])
def test_a_corrected_bias_takes_back_what_rounded_weights_shift(bias):
    """Exactly so for a kernel of one pixel, in groups, without a border."""
    random = np.random.default_rng(0)
    constants = {"kernel": random.normal(size=(6, 2, 1, 1)).astype(np.float32)}
    if bias:
        constants["bias"] = random.normal(size=6).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", *constants], ["y"], name="conv", group=2)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4, 5, 5])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 6, 5, 5])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    x = random.normal(2, 1, size=(7, 4, 5, 5)).astype(np.float32)
    expected = evaluate(model, x).mean(axis=(0, 2, 3))
    correct_biases(model, x, levels=3)
    coarse = rounded(constants["kernel"], 3).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(coarse, "kernel"))
    np.testing.assert_allclose(evaluate(model, x).mean(axis=(0, 2, 3)), expected, atol=1e-5)


def largest_products():
    """Return an int8 convolution whose products have the largest sums that there are."""
    names = ["image", "seen", "exact", "weight", "kernel", "sums", "stored", "bottleneck"]
    image, seen, exact, weight, kernel, sums, stored, bottleneck = names
    nodes = [
        helper.make_node("Cast", [image], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["planes", "one", "zero"], [seen]),
        helper.make_node("DequantizeLinear", [seen, "one", "zero"], [exact]),
        helper.make_node("DequantizeLinear", [weight, "one", "none"], [kernel]),
        helper.make_node("Conv", [exact, kernel], [sums]),
        helper.make_node("QuantizeLinear", [sums, "step", "zero"], [stored]),
        helper.make_node("DequantizeLinear", [stored, "step", "zero"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [bottleneck]),
    ]
    constants = {
        "one": np.float32(1),
        "step": np.float32(32 * 255 * 127 / 255),
        "zero": np.uint8(0),
        "none": np.int8(0),
        weight: np.full((16, 32, 1, 1), 127, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "largest",
        [helper.make_tensor_value_info(image, TensorProto.UINT8, ["n", 4, 4, 32])],
        [helper.make_tensor_value_info(bottleneck, TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_no_processor_lets_the_sums_of_int8_overflow():
    """Those of x86 without VNNI would, if the runtime did not ask ONNX Runtime for other sums."""
    white = np.full((1, 4, 4, 32), 255, np.uint8)
    found = Graph(largest_products(), device="cpu", threads=1).run(white)
    np.testing.assert_allclose(found, 32 * 255 * 127, rtol=0.01)
