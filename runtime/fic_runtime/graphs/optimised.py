"""An optimised graph whose sessions share their weights, which stay in the file they come from.

ONNX Runtime holds the weights of each session apart, 13 MB for EfficientNet-Lite0. Here they are
given to it as arrays over the mapped file of a cache's entry: a second session costs what it
computes with and no more.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import one_line
from .cache import Entry, GraphCache
from .onnx_runtime import onnxruntime
from .protobuf import read_fields
from .sessions import SessionOptions, new_session

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _GRAPH_TENSOR = 7, 5
_TENSOR_DIMENSION, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_EXTERNAL = 1, 2, 8, 13
_KEY, _VALUE = 1, 2  # of what says where
# TensorProto.DataType, as far as NumPy has it; of the others, ONNX Runtime reads the file itself.
_DTYPES = {
    **{1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8"},
    **{9: "?", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8"},
}


class OptimisedGraph:
    """What `cache` keeps of a graph, ready for any number of sessions on the CPU.

    It must live as long as they do; the entry need not, but is needed for another session.

    Raises:
        ValueError: the entry is not what ONNX Runtime writes.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        # Any: ONNX Runtime's OrtValues, over the very bytes of the entry.
        self._weights: dict[str, Any] = {}
        for tensor in _tensors_elsewhere(entry.graph):
            dtype = _DTYPES.get(tensor.type)
            if dtype is not None:
                size = math.prod(tensor.shape)
                array = np.frombuffer(entry.weights, dtype, size, tensor.offset)
                value = onnxruntime.OrtValue.ortvalue_from_numpy(array.reshape(tensor.shape))
                self._weights[tensor.name] = value

    def session(self, settings: SessionOptions) -> Any:
        """Return a session with these options.

        Raises:
            Exception: as `new_session`.
        """
        return new_session(
            self._entry.graph,
            settings._replace(
                optimise=False, weights=self._weights, weights_folder=self._entry.folder
            ),
        )


class Opened(NamedTuple):
    """A session, and what further ones can share with it, if anything."""

    session: Any
    shared: OptimisedGraph | None = None


def cached_session(
    model: Path | bytes, digest: str, settings: SessionOptions, cache: GraphCache
) -> Opened:
    """Return a session, of the optimised graph of an earlier start where there is one.

    Args:
        model: the ONNX file, or its content.
        digest: what identifies the model; the model itself must have been checked against it.
        settings: for the CPU alone: other providers optimise as they like.
        cache: where optimised graphs are.

    Raises:
        Exception: as `new_session`.
    """
    for _ in range(2):  # what is of no use is made again
        entry = cache.find(digest) or _written(model, digest, settings, cache)
        if entry is None:
            break
        try:
            shared = OptimisedGraph(entry)
            return Opened(shared.session(settings), shared)
        except Exception as error:  # onnxruntime's errors share no base class but this one
            cache.discard(digest, one_line(error))
    return Opened(new_session(model, settings))


@contextmanager
def passing_cache() -> Iterator[GraphCache]:
    """Give a cache that is gone at the end; sessions that were opened meanwhile go on.

    Raises:
        OSError: nowhere can it be made.
    """
    import tempfile  # most programs start without it

    # On Windows a mapped file stays, for the system to remove some day.
    with tempfile.TemporaryDirectory(prefix="fic-", ignore_cleanup_errors=True) as folder:
        yield GraphCache(Path(folder, "graphs"))


def _written(
    model: Path | bytes, digest: str, settings: SessionOptions, cache: GraphCache
) -> Entry | None:
    with cache.writing(digest) as unfinished:
        if unfinished is None:
            return None
        try:
            new_session(model, settings._replace(write_optimised=unfinished))
        except Exception as error:  # the disk may be full, or the model none
            cache.give_up(unfinished, one_line(error))
            return None
    return cache.find(digest)


class _Tensor(NamedTuple):
    name: str
    type: int
    shape: tuple[int, ...]
    offset: int


def _tensors_elsewhere(model: bytes) -> Iterator[_Tensor]:
    """Yield the initializers of a model whose values are in the file of weights.

    Raises:
        ValueError: it is not a model.
    """
    for number, graph in read_fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            for number_there, tensor in read_fields(_message(graph)):
                if number_there == _GRAPH_TENSOR:
                    found = _tensor(_message(tensor))
                    if found is not None:
                        yield found


def _tensor(message: memoryview) -> _Tensor | None:
    shape, dtype, name, elsewhere = [], 0, "", {}
    for number, value in read_fields(message):
        if number == _TENSOR_DIMENSION and isinstance(value, int):
            shape.append(value)
        elif number == _TENSOR_TYPE and isinstance(value, int):
            dtype = value
        elif number == _TENSOR_NAME:
            name = str(_message(value), "utf-8")
        elif number == _TENSOR_EXTERNAL:
            entry = dict(read_fields(_message(value)))
            key, text = (str(_message(entry[field]), "utf-8") for field in (_KEY, _VALUE))
            elsewhere[key] = text
    return (
        _Tensor(name, dtype, tuple(shape), int(elsewhere.get("offset", 0))) if elsewhere else None
    )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is damaged")
    return value
