"""A base in 8-bit integers: weights, and what flows between the layers."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from fic_runtime.graphs.onnx_runtime import onnxruntime

from ..errors import ConversionError
from ..graphs.files import at_opset
from ..graphs.surgery import canonicalize, fold_pads

_LEVELS = 127  # of int8, symmetric
# The first whose quantize nodes ONNX's own reference evaluator knows; the runtime needs none newer.
_OPSET = 19
# docs/why/int8.md has the measurements. What is not here stays float32.
OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Mul",
    "Relu",
    "Sigmoid",
)
_PRODUCTS = ("Conv", "MatMul", "Gemm")
# The quantizer warns unless a graph says that it was prepared.
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def quantize_int8(
    model: onnx.ModelProto,
    images: Sequence[NDArray[Any]],
    *,
    operators: Sequence[str] = OPERATORS,
    method: CalibrationMethod = CalibrationMethod.MinMax,
    correct: bool = True,
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Return a base graph whose products are done in 8-bit integers.

    Weights are int8 with one scale per output channel, values between layers are uint8 with one
    scale each, from the least and the largest value that the images cause. Quantize and dequantize
    nodes say so (QDQ), which ONNX Runtime fuses into integer kernels. Input and output stay as they
    are, and so does everything before the first product: the pixel arithmetic. The same graph and
    images give the same bytes.

    Args:
        model: what `convert_base` returned.
        images: uint8 (height, width, 3) each, decoded and resized as for the runtime.
        operators: the kinds of nodes to be quantized.
        method: how the range of a value follows from what the images cause.
        correct: whether the biases make up for rounded weights; see `correct_biases`.
        reduce_range: 7 bits for the weights, for processors that saturate 16-bit sums.

    Raises:
        ConversionError: the graph holds nothing to be quantized.
        ValueError: no image.
    """

    if not len(images):
        raise ValueError("images is empty: the ranges of values are measured on real pictures")
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    graph = prepared.graph
    fold_pads(graph)
    pixel_nodes = nodes_before_the_first_product(graph)
    if correct:
        correct_biases(
            prepared, images, levels=64 if reduce_range else _LEVELS, exclude=pixel_nodes
        )
    _drop_unused(graph)
    prepared.metadata_props.add(key=_PREPARED[0], value=_PREPARED[1])
    names = [end.name for end in (graph.input[0], graph.output[0])]
    with tempfile.TemporaryDirectory(prefix="fic-int8-") as folder:
        file = Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            file,
            _Reader(names[0], images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=pixel_nodes,
            calibrate_method=method,
        )
        quantized = onnx.load(file)
    if not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node):
        raise ConversionError(
            "the base cannot be quantized: it holds no convolution and no product with weights; "
            "export it without --quantize"
        )
    quantized = at_opset(quantized, _OPSET)
    canonicalize(quantized.graph, input_name=names[0], output_name=names[1])
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    only_used_domains(quantized)
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    return quantized


def nodes_before_the_first_product(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that prepare the pixels.

    The nodes of a converted graph stand in the order of use, so these are at its beginning.

    Raises:
        ConversionError: the graph holds no product with weights.
    """
    names: list[str] = []
    for node in graph.node:
        if node.op_type in _PRODUCTS:
            return names
        names.append(node.name)
    raise ConversionError(
        "the base cannot be quantized: it holds no convolution and no product with weights; "
        "export it without --quantize"
    )


def only_used_domains(model: onnx.ModelProto) -> None:
    """Drop the operator sets that a converter declares in case it needs them."""
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used | {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def correct_biases(
    model: onnx.ModelProto,
    images: Iterable[NDArray[Any]],
    *,
    levels: int,
    exclude: Iterable[str] = (),
) -> None:
    """Add to each convolution's bias what its rounded weights will miss on average.

    A rounded kernel W' gives another mean than W: E[Wx] - E[W'x] = (W - W') E[x], with one E[x] for
    each input channel. At the border of a padded picture that is not exact.

    Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, with means
    measured on pictures instead of derived from batch normalization.

    Args:
        model: the float32 graph, changed in place; its weights stay as they are.
        images: uint8 (height, width, 3) each, such as the graph will see.
        levels: the largest integer of the rounded weights, which are symmetric: 127 for int8.
        exclude: names of nodes that will not be rounded.
    """
    kept = set(exclude)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and node.name not in kept
        and all(name in constants for name in node.input[1:])
    ]
    if not convolutions:
        return
    means = _channel_means(model, [node.input[0] for node in convolutions], images)
    for node in convolutions:
        kernel = numpy_helper.to_array(constants[node.input[1]])
        missing = (kernel - rounded(kernel, levels)).sum(axis=(2, 3), dtype=np.float64)
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        inputs = means[node.input[0]].reshape(groups, -1)
        shift = np.einsum("goi,gi->go", missing.reshape(groups, -1, missing.shape[1]), inputs)
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else 0
        name = f"{node.output[0]}_corrected_bias"
        corrected = (bias + shift.ravel()).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(corrected, name))
        node.input[:] = [*node.input[:2], name]


def rounded(kernel: NDArray[Any], levels: int) -> NDArray[Any]:
    """Return a kernel rounded to `levels` steps on either side of zero, per output channel."""
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    scale = np.where(largest > 0, largest / levels, 1).reshape(-1, 1, 1, 1)
    return np.asarray(np.round(kernel / scale) * scale)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, name: str, images: Iterable[NDArray[Any]]) -> None:
        self._inputs = ({name: image[np.newaxis]} for image in images)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._inputs, None)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _channel_means(
    model: onnx.ModelProto, names: list[str], images: Iterable[NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the mean of each value (n, channels, height, width) over everything but channels."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = list(dict.fromkeys(names))
    means = [f"{name}_channel_mean" for name in names]
    opset = next(one.version for one in probe.opset_import if one.domain in ("", "ai.onnx"))
    axes = numpy_helper.from_array(np.array((0, 2, 3), np.int64), "channel_mean_axes")
    # An attribute before opset 18, an input since then.
    attributes: dict[str, Any] = {"axes": [0, 2, 3]} if opset < 18 else {}
    inputs = [] if attributes else [axes.name]
    if inputs:
        probe.graph.initializer.append(axes)
    for name, mean in zip(names, means, strict=True):
        probe.graph.node.append(
            helper.make_node("ReduceMean", [name, *inputs], [mean], keepdims=0, **attributes)
        )
        probe.graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, [None]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (image,) = (tensor.name for tensor in session.get_inputs())
    totals = [np.zeros(())] * len(means)
    count = 0
    for pixels in images:
        found = session.run(means, {image: pixels[np.newaxis]})
        totals = [total + mean for total, mean in zip(totals, found, strict=True)]
        count += 1
    return {name: total / count for name, total in zip(names, totals, strict=True)}
