"""From Keras to ONNX: one graph for the base, uint8 pixels in, and one for the head."""

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx

from fic_runtime.preprocessing import Preprocessing

from ..errors import ConversionError, one_line
from ..graphs.files import OPSET, check
from ..graphs.surgery import (
    cancel_transposes,
    canonicalize,
    fold_into_convolutions,
    fold_pads,
    join,
    prepend_preprocessing,
    protect_padded_pools,
    skip_idle_reshapes,
)
from .keras_models import OPERATOR_HANDLERS, split_model, with_exportable_layers

if TYPE_CHECKING:
    import keras

IMAGE = "image"
BOTTLENECK = "bottleneck"
PROBABILITIES = "probabilities"


def convert_base(model: "keras.Model", preprocessing: Preprocessing) -> onnx.ModelProto:
    """Return the base as a graph from uint8 RGB pixels to bottleneck.

    The input `image` is uint8 (n, height, width, 3); the pixel numbers of `preprocessing` are
    inside the graph. The output `bottleneck` is float32. Any batch size n fits. The same model
    gives the same bytes.

    Raises:
        ConversionError: the model holds something that has no ONNX form.
    """
    geometry = preprocessing.geometry
    wanted = (geometry.height, geometry.width, 3)
    if tuple(model.input_shape[1:]) != wanted:
        raise ValueError(
            f"the base takes {model.input_shape[1:]}, its preprocessing gives {wanted}"
        )
    converted = _convert(model)
    prepend_preprocessing(converted.graph, preprocessing)
    return _finish(converted, "base", input_name=IMAGE, output_name=BOTTLENECK)


def convert_head(model: "keras.Model") -> onnx.ModelProto:
    """Return the head as a graph from float32 `bottleneck` to float32 `probabilities`.

    Any batch size fits. The same model gives the same bytes.

    Raises:
        ConversionError: the model holds something that has no ONNX form.
    """
    converted = _convert(model)
    return _finish(converted, "head", input_name=BOTTLENECK, output_name=PROBABILITIES)


def _convert(model: "keras.Model") -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"{model.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "only a model with one of each can be exported"
        )
    with _quiet() as complaints, _cheap_collection():
        try:
            pieces: list[onnx.ModelProto] = [
                tf2onnx.convert.from_keras(
                    segment,
                    input_signature=[tf.TensorSpec(segment.function.inputs[0].shape, tf.float32)],
                    opset=OPSET,
                    custom_op_handlers=OPERATOR_HANDLERS,
                    optimizers=optimizers(),
                )[0]
                for segment in split_model(with_exportable_layers(model))
            ]
        # Keras and the converter raise whatever they met on their way.
        except Exception as error:
            raise ConversionError(
                f"{model.name} cannot be converted: {one_line(error)}; "
                "use layers that tf2onnx knows"
            ) from error
    nodes = [node for piece in pieces for node in piece.graph.node]
    unsupported = sorted({node.op_type for node in nodes if not _is_onnx(node)})
    if unsupported or complaints:
        raise ConversionError(
            f"{model.name} cannot be converted: no ONNX form for "
            f"{', '.join(unsupported) or complaints[0]}; use layers that tf2onnx knows"
        )
    converted = pieces[0]
    converted.graph.CopyFrom(join([piece.graph for piece in pieces]))
    return converted


@contextmanager
def _cheap_collection() -> Iterator[None]:
    """Keep what lives already out of the garbage collections that are to come."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _is_onnx(node: onnx.NodeProto) -> bool:
    return onnx.defs.has(node.op_type, max_inclusive_version=OPSET, domain=node.domain)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep loggers and warnings of the converter from the user; yield what it logged as errors."""
    complaints: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    collector = Collector(level=logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow", "absl")]
    before = [(one.handlers[:], one.propagate) for one in loggers]
    for one in loggers:
        one.handlers[:] = [collector]
        one.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield complaints
    finally:
        for one, (handlers, propagate) in zip(loggers, before, strict=True):
            one.handlers[:] = handlers
            one.propagate = propagate


def _finish(
    converted: onnx.ModelProto, name: str, *, input_name: str, output_name: str
) -> onnx.ModelProto:
    cancel_transposes(converted.graph)
    skip_idle_reshapes(converted)
    protect_padded_pools(converted.graph)
    fold_into_convolutions(converted.graph)
    fold_pads(converted.graph)
    canonicalize(converted.graph, input_name=input_name, output_name=output_name)
    converted.graph.name = name
    converted.graph.doc_string = ""
    converted.producer_name = "fic"
    converted.producer_version = ""
    converted.doc_string = ""
    domains = {node.domain for node in converted.graph.node}
    opsets = [opset for opset in converted.opset_import if opset.domain in domains]
    del converted.opset_import[:]
    converted.opset_import.extend(opsets)
    check(converted)
    return converted


def optimizers() -> dict[str, Callable[[], Any]]:
    """Return the passes by name, as `tf2onnx.convert.from_keras` takes them.

    They are those of the converter's own that find something in networks of layers. Each pass
    copies the graph with all weights, so leaving out those for loops, einsum, upsampling and
    quantized graphs takes a third off the time of a large base; the bytes stay the same.
    """
    from tf2onnx.optimizer.back_to_back_optimizer import BackToBackOptimizer
    from tf2onnx.optimizer.const_fold_optimizer import ConstFoldOptimizer
    from tf2onnx.optimizer.global_pool_optimizer import GlobalPoolOptimizer
    from tf2onnx.optimizer.identity_optimizer import IdentityOptimizer
    from tf2onnx.optimizer.merge_duplicated_nodes_optimizer import MergeDuplicatedNodesOptimizer
    from tf2onnx.optimizer.reshape_optimizer import ReshapeOptimizer
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    # But for the first, in the converter's own order.
    passes = {
        "give_scalars_a_dimension": _GiveScalarsADimension,
        "optimize_transpose": TransposeOptimizer,
        "fold_constants": ConstFoldOptimizer,
        "merge_duplication": MergeDuplicatedNodesOptimizer,
        "reshape_optimizer": ReshapeOptimizer,
        "global_pool_optimizer": GlobalPoolOptimizer,
        "remove_identity": IdentityOptimizer,
        "remove_back_to_back": BackToBackOptimizer,
    }
    return {name: _after_collection(optimizer) for name, optimizer in passes.items()}


class _GiveScalarsADimension:
    """Make added scalar constants vectors of one element.

    The converter's pass on transposes stops at `Conv` + scalar (`max(numpy_val.shape)` of an empty
    shape, tf2onnx 1.17), and then leaves a hundred transposes in MobileNetV3 with fresh weights.
    """

    graph_been_opt = False

    def optimize(self, graph: Any, iteration: int) -> Any:
        for node in graph.get_nodes():
            if node.type == "Add":
                for index, source in enumerate(node.inputs):
                    if source.is_const() and not graph.get_shape(source.output[0]):
                        array = source.get_tensor_value(as_list=False).reshape(1)
                        vector = graph.make_const(f"{node.name}_vector_{index}", array)
                        graph.replace_input(node, source.output[0], vector.output[0], index)
        return graph


def _after_collection(optimizer: type) -> Callable[[], Any]:
    def make() -> Any:
        # The copies hold themselves in cycles: uncollected, they are 60 times the weights.
        gc.collect()
        return optimizer()

    return make
