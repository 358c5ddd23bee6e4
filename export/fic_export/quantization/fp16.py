"""A base in 16-bit floating point: half the size, and faster where a device computes in it."""

import logging
import sys
import warnings
from collections.abc import Callable

import onnx

from ..graphs.surgery import canonicalize
from .int8 import nodes_before_the_first_product, only_used_domains


def convert_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a base graph with weights and arithmetic in float16.

    The input stays uint8 and the output float32. The pixel arithmetic stays float32, so that the
    base gets the same pixels. ONNX Runtime's CPU has hardly any float16 kernel: it computes in
    float32 and rounds in between. The same graph gives the same bytes.

    Raises:
        ConversionError: the graph holds no product with weights.
    """
    convert_float_to_float16 = _converter()
    names = [end.name for end in (model.graph.input[0], model.graph.output[0])]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Of each weight that float16 cannot hold; the comparison with float32 tells if it matters.
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(
            copy,
            keep_io_types=True,
            op_block_list=[],
            node_block_list=nodes_before_the_first_product(model.graph),
        )
    canonicalize(half.graph, input_name=names[0], output_name=names[1])
    only_used_domains(half)
    return half


def _converter() -> Callable[..., onnx.ModelProto]:
    path = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    finally:
        # Importing the package puts its folder, with modules named `models` and `benchmark`, there.
        sys.path[:] = path
    convert: Callable[..., onnx.ModelProto] = convert_float_to_float16
    return convert
