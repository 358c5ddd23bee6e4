"""What the rounding of weights shifts on average is taken back by the biases.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
section 4.2, with means measured on pictures instead of derived from batch normalization.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fic_runtime.graphs.onnx_runtime import onnxruntime

Array = np.ndarray[Any, Any]


def correct_biases(
    model: onnx.ModelProto, images: Iterable[Array], *, levels: int, exclude: Iterable[str] = ()
) -> None:
    """Add to each convolution's bias what its rounded weights will miss on average.

    A rounded kernel W' gives another mean than W: E[Wx] - E[W'x] = (W - W') E[x], with one E[x] for
    each input channel. At the border of a padded picture that is not exact.

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
        groups = next((each.i for each in node.attribute if each.name == "group"), 1)
        inputs = means[node.input[0]].reshape(groups, -1)
        shift = np.einsum("goi,gi->go", missing.reshape(groups, -1, missing.shape[1]), inputs)
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else 0
        name = f"{node.output[0]}_corrected_bias"
        corrected = (bias + shift.ravel()).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(corrected, name))
        node.input[:] = [*node.input[:2], name]


def rounded(kernel: Array, levels: int) -> Array:
    """Return a kernel rounded to `levels` steps on either side of zero, per output channel."""
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    scale = np.where(largest > 0, largest / levels, 1).reshape(-1, 1, 1, 1)
    return np.asarray(np.round(kernel / scale) * scale)


def _channel_means(
    model: onnx.ModelProto, names: list[str], images: Iterable[Array]
) -> dict[str, Array]:
    """Return the mean of each value (n, channels, height, width) over everything but channels."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = list(dict.fromkeys(names))
    means = [f"{name}_channel_mean" for name in names]
    for name, mean in zip(names, means, strict=True):
        probe.graph.node.append(
            helper.make_node("ReduceMean", [name], [mean], axes=[0, 2, 3], keepdims=0)
        )
        probe.graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, [None]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (image,) = (each.name for each in session.get_inputs())
    totals = [np.zeros(())] * len(means)
    count = 0
    for pixels in images:
        found = session.run(means, {image: pixels[np.newaxis]})
        totals = [total + mean for total, mean in zip(totals, found, strict=True)]
        count += 1
    return {name: total / count for name, total in zip(names, totals, strict=True)}
