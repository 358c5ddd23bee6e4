"""ONNX graphs as others write them, small and with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 16
SIDE = 32


def conv_graph(
    *,
    layout: str = "nchw",
    dtype: int = TensorProto.FLOAT,
    batch: int | str = "batch",
    side: int | str = SIDE,
    opset: int = 17,
    ir_version: int = 8,
    outputs: tuple[str, ...] = ("embedding",),
    input_name: str = "pixel_values",
) -> onnx.ModelProto:
    """Return a convolution with outputs among `map`, `tokens`, `pooled`, `embedding`.

    A batch that is a number stands in a `Reshape`, too, as tracing leaves it there.
    """
    random = np.random.default_rng(7)
    weights_type = np.float16 if dtype == TensorProto.FLOAT16 else np.float32
    kernel = (random.normal(size=(FEATURES, 3, 3, 3)) * 0.2).astype(weights_type)
    rows = batch if isinstance(batch, int) else 0
    constants = {
        "kernel": kernel,
        "one_row": np.array([rows, FEATURES], np.int64),
        "rows": np.array([rows, FEATURES, -1], np.int64),
    }
    current, nodes = input_name, []

    def step(operator: str, *others: str, output: str, **attributes: Any) -> None:
        nonlocal current
        nodes.append(helper.make_node(operator, [current, *others], [output], **attributes))
        current = output

    if dtype == TensorProto.UINT8:
        step("Cast", output="as_float", to=TensorProto.FLOAT)
    if layout == "nhwc":
        step("Transpose", output="channels_first", perm=[0, 3, 1, 2])
    step("Conv", "kernel", output="convolved", strides=[2, 2])
    step("Relu", output="map")
    step("Reshape", "rows", output="columns")
    step("Transpose", output="tokens", perm=[0, 2, 1])
    current = "map"
    step("GlobalAveragePool", output="pooled")
    step("Reshape", "one_row", output="embedding")
    shape = [batch, 3, side, side] if layout == "nchw" else [batch, side, side, 3]
    result = TensorProto.FLOAT if dtype == TensorProto.UINT8 else dtype
    ranks = {"map": 4, "tokens": 3, "pooled": 4, "embedding": 2, "sum": 2}
    ends = [
        helper.make_tensor_value_info(name, result, [batch, *[None] * (ranks[name] - 1)])
        for name in outputs
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(input_name, dtype, shape)],
        ends,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    if ir_version < 4:  # which had constants among the inputs
        for tensor in graph.initializer:
            model.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return model


def saved(model: onnx.ModelProto, path: Path, **options: Any) -> Path:
    """Write a model and return its path."""
    onnx.save_model(model, path, **options)
    return path
