"""ONNX graphs that others wrote: read, checked, and the tensor found that is a bottleneck.

Nothing here changes what a graph computes; `wrapping` puts something around it.
"""

import difflib
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from fic_runtime.bundle.graph_contents import (
    KNOWN_TYPES,
    GraphContents,
    contents_of_file,
    read_contents,
)
from fic_runtime.bundle.names import MOST_BYTES, MOST_WEIGHTS
from fic_runtime.reading import open_regular, read_regular, too_large

from ..errors import ConversionError, one_line
from .functions import inlined

OLDEST_OPSET = 11
# What the networks of pictures call the vector, or the tokens, of one; the best one first.
BOTTLENECK_NAMES = ("image_embeds", "pooler_output", "last_hidden_state")
# How an input may hold the pixels.
INPUT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)

_MOST_NAMES = 6  # in one message
_MOST_PICTURES = 1024  # that a graph for a fixed number of them takes at once
_MOST_PIXELS = 1 << 27  # of all of these


@dataclass(frozen=True, kw_only=True)
class PictureInput:
    """The input of a graph.

    Attributes:
        name: as the graph has it.
        type: one of `INPUT_TYPES`.
        dims: number of pictures, and the three axes of one; a name or None where an axis is free.
    """

    name: str
    type: int
    dims: tuple[int | str | None, ...]

    @property
    def batch(self) -> int | None:
        """The number of pictures that it takes at once, or None for any."""
        return self.dims[0] if isinstance(self.dims[0], int) else None

    @property
    def layouts(self) -> tuple[str, ...]:
        """`nchw` or `nhwc`; both, the likelier one first, where the graph does not say."""
        channels = [axis for axis in (1, 3) if self.dims[axis] == 3]
        if not channels:
            named = [str(self.dims[axis]).casefold() for axis in (1, 3)]
            channels = [
                axis
                for axis, name in zip((1, 3), named, strict=True)
                if "channel" in name or name == "c"
            ]
        if len(channels) == 1:
            return ("nchw",) if channels == [1] else ("nhwc",)
        return ("nchw", "nhwc")

    def side(self, layout: str) -> tuple[int | None, int | None]:
        """Return height and width, None where they are free."""
        axes = (2, 3) if layout == "nchw" else (1, 2)
        height, width = (self.dims[axis] for axis in axes)
        return (
            height if isinstance(height, int) else None,
            width if isinstance(width, int) else None,
        )


@dataclass(frozen=True)
class ForeignGraph:
    """A graph that was read and may be used: its operators and weights are ONNX's own.

    Attributes:
        path: the file.
        model: its content; weights that lie beside it are not loaded.
        weights: the files that hold them.
    """

    path: Path
    model: onnx.ModelProto
    weights: tuple[Path, ...] = ()

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return max(
            (one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")),
            default=0,
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output.name for output in self.model.graph.output)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Names of all values that the graph computes."""
        return tuple(name for node in self.model.graph.node for name in node.output if name)

    def bottleneck(self, wanted: str | None) -> str:
        """Return the tensor that is the bottleneck: the one that was asked for, or by its name.

        Raises:
            ConversionError: there is none of this name, or nothing says which one it is.
        """
        if wanted is not None:
            if wanted in self.tensors:
                return wanted
            near = difflib.get_close_matches(wanted, self.tensors, n=3, cutoff=0.4)
            raise ConversionError(
                f"{self.path}: has no tensor {wanted!r}; the nearest are "
                f"{_listed(near or self.outputs)}"
            )
        if len(self.outputs) == 1:
            return self.outputs[0]
        for name in BOTTLENECK_NAMES:
            if name in self.outputs:
                return name
        raise ConversionError(
            f"{self.path}: has the outputs {_listed(self.outputs)}; say with "
            "--bottleneck-tensorname which of them is the bottleneck"
        )

    def picture_input(self, tensor: str) -> PictureInput:
        """Return the input from which a tensor is computed.

        Raises:
            ConversionError: there is none, there are several, or it does not take RGB pictures.
        """
        graph = self.model.graph
        used = names_before(graph, tensor)
        constants = {one.name for one in graph.initializer}
        constants |= {one.values.name for one in graph.sparse_initializer}
        found = [one for one in graph.input if one.name in used and one.name not in constants]
        if len(found) != 1:
            what = f"the inputs {_listed([one.name for one in found])}" if found else "no input"
            raise ConversionError(
                f"{self.path}: {tensor} is computed from {what}; give a graph from one picture, or "
                "a tensor that needs nothing else (--bottleneck-tensorname)"
            )
        kind = found[0].type.tensor_type
        dims = tuple(
            one.dim_value if one.HasField("dim_value") else one.dim_param or None
            for one in kind.shape.dim
        )
        picture = PictureInput(name=found[0].name, type=kind.elem_type, dims=dims)
        if picture.type not in INPUT_TYPES:
            raise ConversionError(
                f"{self.path}: its input {picture.name} holds {type_name(picture.type)}; give a "
                "graph that takes pixels as float32, float16, float64 or uint8"
            )
        if len(dims) != 4 or not _takes_rgb(picture):
            shape = ", ".join("?" if one is None else str(one) for one in dims)
            raise ConversionError(
                f"{self.path}: its input {picture.name} has the shape ({shape}); give a graph that "
                "takes RGB pictures, (n, 3, height, width) or (n, height, width, 3)"
            )
        if _is_too_large(picture) or any(isinstance(one, int) and one < 1 for one in dims):
            shape = ", ".join("?" if one is None else str(one) for one in dims)
            raise ConversionError(
                f"{self.path}: its input {picture.name} has the shape ({shape}), which no pictures "
                "have; export it again"
            )
        return picture

    def load_weights(self, graph: onnx.GraphProto) -> None:
        """Put the weights that lie beside the file into a copy of its graph, or a part of it.

        Raises:
            ConversionError: a file of weights is not what the graph says.
        """
        # Of what lies side by side; the same bytes for each of many constants would fill memory.
        left = 2 * sum(map(_size, self.weights))
        for tensor in tensors_of(graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                left -= self._load(tensor, left)

    def _load(self, tensor: onnx.TensorProto, most: int) -> int:
        """Put in the weights of one constant, and return how many bytes they have."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = _beside(self.path, entries["location"])
        try:
            with open_regular(path, follow_link=False) as file:
                size = os.fstat(file.fileno()).st_size
                offset = int(entries.get("offset") or 0)
                length = int(entries.get("length") or size - offset)
                if offset < 0 or length < 0 or offset + length > size:
                    raise ConversionError(
                        f"{path}: ends before the weights of {self.path.name} do; copy it again"
                    )
                if length > most:
                    raise ConversionError(
                        f"{path}: holds fewer weights than {self.path.name} takes from it; export "
                        "it again"
                    )
                file.seek(offset)
                tensor.raw_data = _first_bytes(file, length)
        except (OSError, ValueError, MemoryError) as error:
            raise ConversionError(
                f"{path}: cannot be read ({one_line(error)}); copy it again"
            ) from error
        tensor.ClearField("data_location")
        del tensor.external_data[:]
        return length


def read_foreign(path: Path) -> ForeignGraph:
    """Read an ONNX file and check that the runtime may run what it holds.

    Raises:
        ConversionError: it cannot be read, or holds what the runtime refuses.
    """
    try:
        data = read_regular(path, MOST_BYTES)
        contents = read_contents(data)
        model = onnx.load_model_from_string(data)
        if model.functions:
            # Each is put where it is called; what is left is ONNX's own, or refused.
            model = inlined(model, len(data))
            contents = read_contents(model.SerializeToString())
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror}); give an ONNX file"
        ) from error
    except MemoryError as error:
        raise ConversionError(
            f"{path}: takes more memory than there is; give a smaller graph"
        ) from error
    except (ValueError, DecodeError) as error:
        raise ConversionError(
            f"{path}: is not an ONNX graph ({one_line(error)}); give an ONNX file"
        ) from None
    _check_contents(path, contents)
    graph = ForeignGraph(path, model, _weights(path, contents))
    if graph.opset < OLDEST_OPSET:
        raise ConversionError(
            f"{path}: is written in opset {graph.opset}, and fic reads {OLDEST_OPSET} and later; "
            "export it again with a later opset"
        )
    if not graph.outputs:
        raise ConversionError(f"{path}: gives nothing; export it again with its output")
    return graph


def digest_foreign(path: Path) -> str:
    """Return the SHA-256 of an ONNX file, of its digest and those of its weights if it has any.

    Raises:
        ConversionError: a file cannot be read.
    """
    try:
        contents = contents_of_file(path)
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror}); give an ONNX file"
        ) from error
    except ValueError as error:
        raise ConversionError(
            f"{path}: is not an ONNX graph ({error}); give an ONNX file"
        ) from None
    digests = [_sha256(one) for one in (path, *_weights(path, contents))]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def names_before(graph: onnx.GraphProto, tensor: str) -> set[str]:
    """Return the names of all values that a tensor is computed from, and its own."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            if name in makers:
                waiting += _read_by(makers[name])
    return found


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants of a graph and of the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in graphs_of(attribute):
                yield from tensors_of(inner)


def graphs_of(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    """Return the graphs that an attribute holds: branches, or the body of a loop."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, in its inner graphs too: names of those alone do no harm."""
    yield from node.input
    for attribute in node.attribute:
        for inner in graphs_of(attribute):
            yield from (output.name for output in inner.output)
            for one in inner.node:
                yield from _read_by(one)


def _check_contents(path: Path, contents: GraphContents) -> None:
    if contents.custom:
        raise ConversionError(
            f"{path}: uses custom operators ({_listed(sorted(contents.custom))}), which the "
            "runtime never loads; export it in operators of ONNX, without fusing them for one "
            "engine"
        )
    if contents.control_flow:
        raise ConversionError(
            f"{path}: holds loops or branches ({_listed(sorted(contents.control_flow))}), which "
            "the runtime never loads; export it without them"
        )
    if unknown := sorted(contents.types - KNOWN_TYPES):
        raise ConversionError(
            f"{path}: holds weights of the type {type_name(unknown[0])}, which the runtime does "
            "not know; give the graph in float32 or float16"
        )


def _weights(path: Path, contents: GraphContents) -> tuple[Path, ...]:
    """Return the files of weights, which must lie with the graph."""
    return tuple(_beside(path, location) for location in sorted(contents.locations))


def _beside(path: Path, location: str) -> Path:
    """Return where a file of weights lies, without links in the way to it.

    A link may lead to where the graph's own leads, as in the cache of the hub's library, and
    nowhere else: what is read becomes a part of every bundle.
    """
    parts = PurePosixPath(location.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise ConversionError(
            f"{path}: has weights in {location[:100]!r}, outside of its folder; put them beside it "
            "and export it again"
        )
    if not os.path.isfile(path.parent / location):  # noqa: PTH113 # no name that cannot be is an error
        raise ConversionError(
            f"{path}: its weights are in {location[:100]}, which is not beside it; copy that file, "
            "too"
        )
    found = (path.parent / location).resolve()
    if not any(found.is_relative_to(own) for own in (path.parent.resolve(), path.resolve().parent)):
        raise ConversionError(
            f"{path}: its weights are in {location[:100]}, a link out of its folder; put the "
            "file itself there"
        )
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror}); copy it again"
        ) from error


def _first_bytes(file: BinaryIO, length: int) -> bytes:
    pieces = []
    while length and (piece := file.read(min(length, 1 << 24))):
        pieces.append(piece)
        length -= len(piece)
    if length:
        raise ValueError("it ends early")
    return b"".join(pieces)


def _takes_rgb(picture: PictureInput) -> bool:
    """Tell whether one axis may be the three channels."""
    fixed = [picture.dims[axis] for axis in (1, 3)]
    return 3 in fixed or not all(isinstance(one, int) for one in fixed)


def _is_too_large(picture: PictureInput) -> bool:
    """Tell whether an array as this input has it would fill the memory."""
    values = math.prod(one for one in picture.dims if isinstance(one, int))
    return (picture.batch or 1) > _MOST_PICTURES or values > 3 * _MOST_PIXELS


def type_name(number: int) -> str:
    """Return what NumPy calls an element type of ONNX."""
    try:
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(number)))
    except (KeyError, TypeError, ValueError):
        return f"number {number}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MOST_WEIGHTS:
                raise too_large(path, MOST_WEIGHTS)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror}); copy it again"
        ) from error
