"""Arithmetic, layout and pooling around a graph that somebody else wrote.

What comes out is a base like any other: uint8 RGB pixels (n, height, width, 3) in, a float32
bottleneck out. The nodes and weights of the graph stay as they are; what the bottleneck does not
need is left out.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fic_runtime.preprocessing import Pixels, Preprocessing

from ..graphs.foreign import ForeignGraph, PictureInput, graphs_of, names_before
from .keras_to_onnx import BOTTLENECK, IMAGE

Kind = Literal["vector", "map_nchw", "map_nhwc", "tokens"]

# What the arithmetic in front needs, and what ONNX Runtime reads since 1.12.
_LEAST_IR = 8
# From these opsets on, the axes of an operator are an input and no attribute.
_AXES_ARE_INPUT = {"ReduceMean": 18, "ReduceMax": 18, "Unsqueeze": 13}
_NHWC_TO_NCHW, _NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """What is put around a graph.

    Attributes:
        picture: the graph's input.
        layout: `nchw` or `nhwc`, of that input.
        tensor: the graph's value that becomes the bottleneck.
        kind: what that value is.
        pooling: `avg`, `max`, `cls` or `none`; a vector stays as it is.
        shape: of one bottleneck, after pooling.
        preprocessing: how a picture becomes the input.
    """

    picture: PictureInput
    layout: str
    tensor: str
    kind: Kind
    pooling: str
    shape: tuple[int, ...]
    preprocessing: Preprocessing


def wrap(graph: ForeignGraph, wrapping: Wrapping, *, free_batch: bool = False) -> onnx.ModelProto:
    """Return a graph from uint8 `image` to float32 `bottleneck`, with all weights inside.

    Args:
        graph: what is wrapped.
        wrapping: how.
        free_batch: take the number of pictures that tracing left in shapes and constants for that
            of the input, for a graph that was made for a fixed one.
    """
    model = extract(graph, wrapping.tensor)
    inner = model.graph
    taken = {wrapping.picture.name, *_names(inner)}
    renamed = {
        name: _fresh(f"{name}_of_graph", taken) for name in (IMAGE, BOTTLENECK) if name in taken
    }
    if renamed:
        _rename(inner, renamed)
    builder = _Builder(graph.opset, taken)
    source = renamed.get(wrapping.picture.name, wrapping.picture.name)
    front = builder.front(wrapping, IMAGE, source)
    if free_batch:
        builder.freed(model, wrapping, source)
    tensor = renamed.get(wrapping.tensor, wrapping.tensor)
    nodes = [*front, *inner.node, *builder.back(wrapping, tensor, BOTTLENECK)]
    for number, node in enumerate(nodes):
        # Quantizers call nodes by their names.
        node.name = node.name or f"{node.op_type.lower()}_node_{number}"
    _replace(inner.node, nodes)
    inner.initializer.extend(builder.constants)
    geometry = wrapping.preprocessing.geometry
    image: list[str | int] = ["n", geometry.height, geometry.width, 3]
    _replace(inner.input, [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, image)])
    output = helper.make_tensor_value_info(BOTTLENECK, TensorProto.FLOAT, ["n", *wrapping.shape])
    _replace(inner.output, [output])
    # Shapes of the values inside: of one batch, where that was fixed.
    del inner.value_info[:]
    # What it was for, and the size of its pictures, is said anew.
    del model.metadata_props[:]
    del model.functions[:]
    model.ir_version = max(model.ir_version, _LEAST_IR)
    return model


def extract(graph: ForeignGraph, tensor: str) -> onnx.ModelProto:
    """Return a graph with the nodes that one tensor needs, and the weights of those inside.

    It has the inputs that the tensor needs, and the tensor as its only output.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    inner = model.graph
    used = names_before(inner, tensor)
    constants = {one.name for one in inner.initializer}
    constants |= {one.values.name for one in inner.sparse_initializer}
    _replace(inner.node, [node for node in inner.node if used.intersection(node.output)])
    _replace(inner.initializer, [one for one in inner.initializer if one.name in used])
    kept = [one for one in inner.sparse_initializer if one.values.name in used]
    _replace(inner.sparse_initializer, kept)
    # Older graphs name their constants among the inputs.
    kept = [one for one in inner.input if one.name in used and one.name not in constants]
    _replace(inner.input, kept)
    del inner.quantization_annotation[:]
    _replace(inner.output, [onnx.ValueInfoProto(name=tensor)])
    graph.load_weights(inner)
    return model


def kind_of(graph: ForeignGraph, tensor: str, rank: int, layout: str) -> Kind | None:
    """Return what a tensor of this rank is, or None where it cannot be a bottleneck.

    Which axes of a map are its sides is told by what made it: convolutions and pools have them
    last, and a transposition says it itself; otherwise it is as in the input.
    """
    if rank == 2:
        return "vector"
    if rank == 3:
        return "tokens"
    if rank != 4:
        return None
    makers = {name: node for node in graph.model.graph.node for name in node.output}
    node = makers.get(tensor)
    while node is not None:
        if node.op_type in _OF_MAPS:
            return "map_nchw"
        if node.op_type == "Transpose":
            order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
            if order == list(_NCHW_TO_NHWC):
                return "map_nhwc"
            if order == list(_NHWC_TO_NCHW):
                return "map_nchw"
            break
        if node.op_type not in _ELEMENTWISE:
            break
        node = next((makers[name] for name in node.input if name in makers), None)
    return "map_nchw" if layout == "nchw" else "map_nhwc"


_OF_MAPS = frozenset(
    {
        *("Conv", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool"),
        *("GlobalMaxPool", "InstanceNormalization", "ConvTranspose", "GroupNormalization"),
    }
)
_ELEMENTWISE = frozenset(
    {
        *("Add", "Mul", "Sub", "Div", "Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid"),
        *("Sigmoid", "Tanh", "Erf", "Gelu", "Identity", "Cast", "Elu", "Max", "Min", "Pad", "Mish"),
    }
)


class _Builder:
    """Nodes in the operators of one opset, under names that nobody else has."""

    def __init__(self, opset: int, taken: set[str]) -> None:
        self.opset = opset
        self.constants: list[onnx.TensorProto] = []
        self._taken = taken

    def front(self, wrapping: Wrapping, pixels: str, target: str) -> list[onnx.NodeProto]:
        """Return the nodes from uint8 RGB pixels to the input of the graph."""
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        numbers, kind = wrapping.preprocessing.pixels, wrapping.picture.type
        if numbers.channel_order == "bgr":
            steps.append(("Gather", [self._constant((2, 1, 0), np.int64)], {"axis": 3}))
        if kind != TensorProto.UINT8:
            steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
            plain = Pixels()
            if numbers.scale != plain.scale:
                steps.append(("Mul", [self._constant(numbers.scale, np.float32)], {}))
            if numbers.offset != plain.offset:
                steps.append(("Add", [self._constant(numbers.offset, np.float32)], {}))
        if wrapping.layout == "nchw":
            steps.append(("Transpose", [], {"perm": _NHWC_TO_NCHW}))
        if kind not in (TensorProto.UINT8, TensorProto.FLOAT):
            steps.append(("Cast", [], {"to": kind}))
        return self._chain(steps, pixels, target)

    def back(self, wrapping: Wrapping, source: str, target: str) -> list[onnx.NodeProto]:
        """Return the nodes from the tensor of the graph to the bottleneck."""
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        # Of float32 this changes nothing, and graphs of half precision give float16.
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
        reduce = {"avg": "ReduceMean", "max": "ReduceMax"}.get(wrapping.pooling)
        axes = {"map_nchw": (2, 3), "map_nhwc": (1, 2), "tokens": (1,)}.get(wrapping.kind)
        if axes is not None and reduce is not None:
            steps.append(self._along(reduce, axes, keepdims=0))
        elif wrapping.kind == "tokens" and wrapping.pooling == "cls":
            steps.append(("Gather", [self._constant(0, np.int64)], {"axis": 1}))
        elif wrapping.kind == "tokens":
            # A map of one row: all that reads bottlenecks knows vectors and maps.
            steps.append(self._along("Unsqueeze", (1,)))
        elif wrapping.kind == "map_nchw":
            steps.append(("Transpose", [], {"perm": _NCHW_TO_NHWC}))
        return self._chain(steps, source, target)

    def freed(self, model: onnx.ModelProto, wrapping: Wrapping, source: str) -> None:
        """Let a graph for a fixed number of pictures take any.

        Tracing leaves the number in the shapes of `Reshape`, alone or times what else is laid out
        along the first axis (heads, windows); what is the same for each picture, such as a class
        token, stands there once for each; and what copies values to their places, as
        `torch.as_strided` does, lays all of a single picture out in one row.
        """
        graph = model.graph
        constants, shapes = _constants(graph), _shapes(model)
        of_picture = {source}
        nodes: list[onnx.NodeProto] = []
        rows: dict[str, str] = {}  # what was laid out in one row, and of what
        joined: dict[str, list[str]] = {}
        count = ""
        for node in graph.node:
            if of_picture.intersection(node.input):
                of_picture.update(node.output)
            if node.op_type == "Reshape" and node.input[0] in of_picture:
                if node.input[1] in constants:
                    wanted = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
                    self._free_shape(node, wanted, shapes.get(node.output[0], ()))
                    if len(wanted) == 1:
                        rows[node.output[0]] = node.input[0]
                elif node.input[1] in joined:
                    self._free_joined_shape(nodes, node, joined[node.input[1]], constants)
            elif node.op_type == "Gather" and node.input[0] in rows:
                if wrapping.picture.batch == 1 and node.input[1] in constants:
                    places = numpy_helper.to_array(constants[node.input[1]])
                    self._gather_of_each(nodes, node, rows[node.input[0]], places)
            elif node.op_type == "Concat" and of_picture.intersection(node.output):
                joined[node.output[0]] = list(node.input)
                for place, name in enumerate(node.input):
                    if name not in of_picture and len(shapes.get(name, ())) > 1:
                        count = count or self._count_of_pictures(nodes)
                        rank = len(shapes[name])
                        node.input[place] = self._repeated(nodes, name, rank, count)
            nodes.append(node)
        _replace(graph.node, nodes)

    def _free_shape(
        self, node: onnx.NodeProto, wanted: Sequence[int], found: Sequence[int | None]
    ) -> None:
        """Let the first axis of what a `Reshape` gives be as long as the pictures make it."""
        if len(wanted) < 2 or wanted[0] < 1:
            return
        # What is left open behind the first axis is what it was for the fixed number.
        known = dict(enumerate(found))
        others = [known.get(axis) if side == -1 else side for axis, side in enumerate(wanted)][1:]
        if any(side is None for side in others) or 0 in others:
            others, first = list(wanted[1:]), 0  # as long as that of the input
        else:
            first = -1
        node.input[1] = self._constant((first, *others), np.int64)
        # With it a 0 would be a length, and not that of the input.
        _replace(node.attribute, [one for one in node.attribute if one.name != "allowzero"])

    def _free_joined_shape(
        self,
        nodes: list[onnx.NodeProto],
        node: onnx.NodeProto,
        parts: Sequence[str],
        constants: Mapping[str, onnx.TensorProto],
    ) -> None:
        """The same where the shape is put together, of constants and what is counted."""
        known = [numpy_helper.to_array(constants[part]) for part in parts if part in constants]
        if parts[0] not in constants or known[0].size != 1 or known[0].item() < 1:
            return
        # Only one length can be left open, and what is counted is one.
        first = 0 if any((values < 0).any() for values in known) else -1
        shape = _fresh(f"{node.input[1]}_free", self._taken)
        free = [self._constant((first,), np.int64), *parts[1:]]
        nodes.append(helper.make_node("Concat", free, [shape], name=f"{shape}_step", axis=0))
        node.input[1] = shape
        _replace(node.attribute, [one for one in node.attribute if one.name != "allowzero"])

    def _gather_of_each(
        self, nodes: list[onnx.NodeProto], node: onnx.NodeProto, source: str, places: Any
    ) -> None:
        """Let a `Gather` from all values of one picture take them from each picture's own."""
        if places.ndim == 0 or len(places) != 1:
            return
        row = _fresh(f"{source}_rows", self._taken)
        shape = self._constant((0, -1), np.int64)
        nodes.append(helper.make_node("Reshape", [source, shape], [row], name=f"{row}_step"))
        node.input[:] = [row, self._constant(places[0], places.dtype)]
        _replace(node.attribute, [helper.make_attribute("axis", 1)])

    def _count_of_pictures(self, nodes: list[onnx.NodeProto]) -> str:
        shape, count = (_fresh(f"{IMAGE}_{what}", self._taken) for what in ("shape", "count"))
        nodes.append(helper.make_node("Shape", [IMAGE], [shape], name=f"{shape}_step"))
        first = self._constant((0,), np.int64)
        nodes.append(helper.make_node("Gather", [shape, first], [count], name=f"{count}_step"))
        return count

    def _repeated(self, nodes: list[onnx.NodeProto], name: str, rank: int, count: str) -> str:
        shape, output = (_fresh(f"{name}_{what}", self._taken) for what in ("shape", "repeated"))
        # Ones leave the other sides as they are.
        others = self._constant((1,) * (rank - 1), np.int64)
        nodes.append(
            helper.make_node("Concat", [count, others], [shape], name=f"{shape}_step", axis=0)
        )
        nodes.append(helper.make_node("Expand", [name, shape], [output], name=f"{output}_step"))
        return output

    def _chain(
        self, steps: Sequence[tuple[str, list[str], dict[str, Any]]], source: str, target: str
    ) -> list[onnx.NodeProto]:
        """Return nodes of which each takes what the one before gives."""
        nodes = []
        for number, (operator, others, attributes) in enumerate(steps or [("Identity", [], {})]):
            last = number == max(len(steps), 1) - 1
            output = target if last else _fresh(f"{source}_{operator.lower()}", self._taken)
            name = _fresh(f"{output}_{operator.lower()}_step", self._taken)
            nodes.append(
                helper.make_node(operator, [source, *others], [output], name=name, **attributes)
            )
            source = output
        return nodes

    def _along(
        self, operator: str, axes: tuple[int, ...], **attributes: Any
    ) -> tuple[str, list[str], dict[str, Any]]:
        if self.opset >= _AXES_ARE_INPUT[operator]:
            return operator, [self._constant(axes, np.int64)], attributes
        return operator, [], {"axes": axes, **attributes}

    def _constant(self, values: Any, dtype: Any) -> str:
        name = _fresh("fic_constant", self._taken)
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the constants of a graph by name, those of `Constant` nodes among them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = (one.t for one in node.attribute if one.name == "value")
            found.update((node.output[0], value) for value in values)
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the values of a graph, as far as they can be told."""
    graph = model.graph
    found: dict[str, tuple[int | None, ...]] = {
        tensor.name: tuple(tensor.dims) for tensor in graph.initializer
    }
    values = list(graph.value_info)
    # ValueError: of more than 2 GB; then there is what the exporter wrote down.
    with contextlib.suppress(onnx.shape_inference.InferenceError, ValueError):
        values += onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    for value in values:
        if value.type.tensor_type.HasField("shape"):
            found[value.name] = tuple(
                side.dim_value if side.HasField("dim_value") else None
                for side in value.type.tensor_type.shape.dim
            )
    return found


def _names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all values of a graph and of the graphs inside it."""
    found = {one.name for one in (*graph.initializer, *graph.input, *graph.output)}
    for node in graph.node:
        found.update(node.input, node.output)
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                found |= _names(inner)
    return found


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for one in (*graph.initializer, *graph.input, *graph.output):
        one.name = names.get(one.name, one.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                _rename(inner, names)


def _fresh(name: str, taken: set[str]) -> str:
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _replace(field: Any, values: Iterable[Any]) -> None:
    # Clearing the list of a message empties the messages that it owned.
    copies = []
    for value in values:
        copy = type(value)()
        copy.CopyFrom(value)
        copies.append(copy)
    del field[:]
    field.extend(copies)
