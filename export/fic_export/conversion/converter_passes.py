"""Which optimisation passes of tf2onnx run on a converted graph."""

import gc
from collections.abc import Callable
from typing import Any


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
                for place, source in enumerate(node.inputs):
                    if source.is_const() and not graph.get_shape(source.output[0]):
                        array = source.get_tensor_value(as_list=False).reshape(1)
                        vector = graph.make_const(f"{node.name}_vector_{place}", array)
                        graph.replace_input(node, source.output[0], vector.output[0], place)
        return graph


def _after_collection(optimizer: type) -> Callable[[], Any]:
    def make() -> Any:
        # The copies hold themselves in cycles: uncollected, they are 60 times the weights.
        gc.collect()
        return optimizer()

    return make
