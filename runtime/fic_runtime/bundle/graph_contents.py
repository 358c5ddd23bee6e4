"""What an ONNX file holds, read from its bytes before anything runs it.

Of `onnx.proto` few fields matter here: operators and their domains, the element types of constants,
and where constants outside of the file lie. Weights are skipped, not read, so that this takes
milliseconds.
"""

from dataclasses import dataclass, field
from io import SEEK_END
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TypeAlias

from ..graphs.protobuf import MOST_FIELDS, read_fields
from ..reading import open_regular

Buffer: TypeAlias = "bytes | memoryview"

# Of ONNX itself. Whatever else a node names is an operator that somebody brought along.
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# TensorProto.DataType: numbers and truth values; not texts, complex numbers, or what came later.
KNOWN_TYPES = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16})

_DEEPEST = 32  # graphs within the attributes of nodes within graphs
# The largest base of Keras has 2000 nodes. ONNX Runtime takes 400 bytes for a node of two bytes,
# and 50 for a dimension in what describes the values between nodes.
_MOST_PARTS = 100_000  # nodes and constants
_MOST_DESCRIBED = 4 << 20  # bytes
# What may go on for ever, or holds a graph of its own that may; export never writes them.
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_GRAPH_VALUES = (11, 12, 13, 14)  # descriptions of inputs, outputs, what is between, and scales
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_ATTRIBUTE_TYPES = (14, 15)
_SPARSE_TENSORS = (1, 2)
_TENSOR_TYPE, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 2, 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


@dataclass(eq=False)
class GraphContents:
    """What is worth knowing of a graph before it is run.

    Attributes:
        custom: operators of domains that are not ONNX's, as `domain.operator`, and functions and
            training steps that the file brings along.
        types: numbers of the element types of its constants.
        locations: files outside of it that hold constants, as it names them.
        control_flow: operators that hold graphs of their own.
    """

    custom: set[str] = field(default_factory=set)
    types: set[int] = field(default_factory=set)
    locations: set[str] = field(default_factory=set)
    control_flow: set[str] = field(default_factory=set)
    _parts: int = 0
    _fields: int = 0
    _described: int = 0

    def count(self, *, parts: int = 0, fields: int = 0, described: int = 0) -> None:
        """Count what was met.

        Raises:
            ValueError: it is more than any classifier has.
        """
        self._parts += parts
        self._fields += fields
        self._described += described
        if (
            self._parts > _MOST_PARTS
            or self._fields > MOST_FIELDS
            or self._described > _MOST_DESCRIBED
        ):
            raise ValueError("it holds more parts than any classifier")


def contents_of_file(model: Path | bytes) -> GraphContents:
    """Return what an ONNX file, or its content, holds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ONNX model.
    """
    if isinstance(model, bytes):
        return read_contents(model)
    with open_regular(model) as file:
        if not file.seek(0, SEEK_END):
            raise ValueError("it is empty")
        # Mapped, so that weights of gigabytes are not read for the sake of a few names. It is
        # closed with its last view, which an error holds as long as it lives.
        return read_contents(memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)))


def read_contents(data: Buffer) -> GraphContents:
    """Return what a serialised ONNX model holds.

    Raises:
        ValueError: the bytes are not an ONNX model.
    """
    contents = GraphContents()
    graphs = 0
    for number, value in read_fields(memoryview(data), contents.count):
        if number == _MODEL_GRAPH:
            _read_graph(_message(value), contents, depth=0)
            graphs += 1
        elif number == _MODEL_FUNCTION:
            contents.custom.add("a function of its own")
        elif number == _MODEL_TRAINING:
            contents.custom.add("a training step")
    if not graphs:
        raise ValueError("it holds no graph")
    return contents


def _read_graph(graph: memoryview, contents: GraphContents, *, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    for number, value in read_fields(graph, contents.count):
        if number == _GRAPH_NODE:
            _read_node(_message(value), contents, depth=depth)
        elif number == _GRAPH_TENSOR:
            _read_tensor(_message(value), contents)
        elif number == _GRAPH_SPARSE:
            _read_sparse(_message(value), contents)
        elif number in _GRAPH_VALUES:
            contents.count(described=len(_message(value)))


def _read_node(node: memoryview, contents: GraphContents, *, depth: int) -> None:
    operator, domains, has_graph = "", set(), False
    contents.count(parts=1)
    for number, value in read_fields(node, contents.count):
        if number == _NODE_OPERATOR:
            operator = _text(value)
            # Each that is named: of several, parsers take the last.
            contents.control_flow |= _CONTROL_FLOW & {operator}
        elif number == _NODE_DOMAIN:
            domains.add(_text(value))
        elif number == _NODE_ATTRIBUTE:
            has_graph |= _read_attribute(_message(value), contents, depth=depth)
    if has_graph:
        contents.control_flow.add("a graph within a node")
    contents.custom.update(f"{domain}.{operator}" for domain in domains - STANDARD_DOMAINS)


def _read_attribute(attribute: memoryview, contents: GraphContents, *, depth: int) -> bool:
    """Look into an attribute, and return whether it holds a graph."""
    has_graph = False
    for number, part in read_fields(attribute, contents.count):
        if number in _ATTRIBUTE_GRAPHS:
            _read_graph(_message(part), contents, depth=depth + 1)
            has_graph = True
        elif number in _ATTRIBUTE_TENSORS:
            _read_tensor(_message(part), contents)
        elif number in _ATTRIBUTE_SPARSE:
            _read_sparse(_message(part), contents)
        elif number in _ATTRIBUTE_TYPES:
            contents.count(described=len(_message(part)))
    return has_graph


def _read_sparse(sparse: memoryview, contents: GraphContents) -> None:
    for number, value in read_fields(sparse, contents.count):
        if number in _SPARSE_TENSORS:
            _read_tensor(_message(value), contents)


def _read_tensor(tensor: memoryview, contents: GraphContents) -> None:
    found = 0
    elsewhere = False
    contents.count(parts=1)
    for number, value in read_fields(tensor, contents.count):
        if number == _TENSOR_TYPE and isinstance(value, int):
            contents.types.add(value)
        elif number == _TENSOR_LOCATION:
            elsewhere = value != 0
        elif number == _TENSOR_EXTERNAL:
            entry = dict(read_fields(_message(value), contents.count))
            if _text(entry.get(_ENTRY_KEY, memoryview(b""))) == "location":
                contents.locations.add(_text(entry.get(_ENTRY_VALUE, memoryview(b""))))
                found += 1
    if elsewhere and not found:
        contents.locations.add("")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is damaged")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "backslashreplace")
