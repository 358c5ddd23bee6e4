"""Functions that an ONNX file brings along, put in where they are called."""

import onnx
from onnx.inliner import inline_local_functions

from ..errors import one_line

# One function may call another twice, and that one a third: a few lines would be more nodes than
# any memory holds. Networks that exporters take apart have some thousand nodes.
_MOST_NODES = 100_000
_MOST_GROWTH = 64 << 20  # bytes beyond twice the file
_DEEPEST = 64

_Key = tuple[str, str, str]


def inlined(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """Return the model without functions of its own.

    Args:
        model: is looked at first: it may not grow without bound.
        size: bytes of its file.

    Raises:
        ValueError: the functions call each other in a circle, or hold more than any network.
    """
    functions = {_key(function): function for function in model.functions}
    nodes, grown, _ = _Sizes(functions).of_nodes(model.graph.node, depth=0)
    if nodes > _MOST_NODES or grown > 2 * size + _MOST_GROWTH:
        raise ValueError("its functions hold more parts than any network")
    try:
        return inline_local_functions(model)
    except Exception as error:  # of C++, with no class of its own
        raise ValueError(one_line(error)) from error


class _Sizes:
    """How many nodes, and how many bytes of them, there are once functions are put in."""

    def __init__(self, functions: dict[_Key, onnx.FunctionProto]) -> None:
        self._functions = functions
        self._known: dict[_Key, tuple[int, int, int]] = {}

    def of_nodes(self, nodes: "list[onnx.NodeProto]", *, depth: int) -> tuple[int, int, int]:
        """Return nodes, bytes, and how deep the calls within are."""
        if depth > _DEEPEST:
            raise ValueError("its functions call each other without end")
        count = size = height = 0
        for node in nodes:
            inner = [self._of_call(node, depth)]
            for attribute in node.attribute:
                graphs = [attribute.g, *attribute.graphs]
                inner += [self.of_nodes(one.node, depth=depth + 1) for one in graphs]
            count += sum(one[0] for one in inner)
            size += sum(one[1] for one in inner)
            height = max(height, *(one[2] for one in inner))
            # Nobody has to know how much more it is.
            if count > _MOST_NODES:
                break
        if depth + height > _DEEPEST:
            raise ValueError("its functions call each other without end")
        return count, size, height

    def _of_call(self, node: onnx.NodeProto, depth: int) -> tuple[int, int, int]:
        key = (node.domain, node.op_type, getattr(node, "overload", ""))
        function = self._functions.get(key)
        if function is None:
            return 1, node.ByteSize(), 0
        if key not in self._known:
            count, size, height = self.of_nodes(function.node, depth=depth + 1)
            self._known[key] = count, size, height + 1
        return self._known[key]


def _key(function: onnx.FunctionProto) -> _Key:
    return function.domain, function.name, getattr(function, "overload", "")
