"""Arrays from a `.pth` file of PyTorch's first format (before 1.6), without PyTorch.

Such a file is five pickles in a row (a magic number, a version, sizes of C types, the arrays by
name, the keys of their storages) and then the values, storage by storage. A pickle may call
whatever it names, so this one may name only what a dictionary of tensors needs.
"""

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WeightsError, one_line

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_VERSION = 1001
# A file is read whole; the largest one that the table knows has 25 MB.
_MAX_BYTES = 1 << 30

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _ElementType:
    dtype: str


@dataclass(frozen=True)
class _Storage:
    key: str
    type: _ElementType
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: all numbers count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _UnknownGlobal(Exception):
    pass


def read_arrays(data: bytes, name: Path) -> dict[str, Array]:
    """Return the arrays of a file by name, in the order in which they were saved.

    Args:
        data: the content of the file.
        name: what errors call it.

    Raises:
        WeightsError: this is not such a file, it is damaged, or it holds more than arrays.
    """
    if len(data) > _MAX_BYTES:
        raise WeightsError(
            f"{name}: larger than the {_MAX_BYTES >> 30} GB that a file of weights may have here"
        )
    file = io.BytesIO(data)
    try:
        tensors, keys = _unpickle(file)
        storages = _read_storages(file, {tensor.storage for tensor in tensors.values()}, keys)
        return {key: _view(tensor, storages[tensor.storage.key]) for key, tensor in tensors.items()}
    except _UnknownGlobal as error:
        raise WeightsError(
            f"{name}: names {error}, which a file of weights has no use for, and was not read"
        ) from error
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise WeightsError(
            f"{name}: not a file of weights in PyTorch's first format, or damaged "
            f"({one_line(error)})"
        ) from error


def _unpickle(file: io.BytesIO) -> tuple[dict[str, _Tensor], list[str]]:
    if _Unpickler(file).load() != _MAGIC_NUMBER or _Unpickler(file).load() != _VERSION:
        raise ValueError("another magic number or version")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("its numbers are big-endian")
    state, keys = _Unpickler(file).load(), _Unpickler(file).load()
    if not isinstance(state, Mapping) or not isinstance(keys, list):
        raise ValueError("holds no dictionary")
    if not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("holds other things than arrays")
    return dict(state), keys


class _Unpickler(pickle.Unpickler):
    """Knows the four names that a dictionary of float32 and int64 tensors consists of."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names, if it is one of the four."""
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise _UnknownGlobal(f"{module}.{name}") from None

    def persistent_load(self, identity: Any) -> _Storage:
        """Return the storage that a tensor lies in; its values follow after the pickles."""
        kind, element, key, _, count, view = identity
        if kind != "storage" or view is not None or not isinstance(element, _ElementType):
            raise ValueError("a storage of an unknown kind")
        return _Storage(str(key), element, int(count))


def _rebuild(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


_GLOBALS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): _ElementType("<f4"),
    ("torch", "LongStorage"): _ElementType("<i8"),
}


def _read_storages(file: io.BytesIO, named: set[_Storage], keys: list[str]) -> dict[str, Array]:
    by_key = {storage.key: storage for storage in named}
    if len(by_key) != len(named):
        raise ValueError("two storages of one name")
    storages = {}
    for key in keys:
        storage = by_key[key]
        dtype = np.dtype(storage.type.dtype)
        count = int.from_bytes(_read(file, 8), "little", signed=True)
        if count != storage.count or count < 0:
            raise ValueError(f"a storage has {count} values where {storage.count} are announced")
        storages[key] = np.frombuffer(_read(file, count * dtype.itemsize), dtype)
    return storages


def _read(file: io.BytesIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ValueError("it ends early")
    return data


def _view(tensor: _Tensor, values: Array) -> Array:
    """Return the tensor as an array of its own, contiguous whatever its strides are."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    count: int = math.prod(shape)
    # The count, too: with a stride of 0 a small storage could be a huge array.
    if min((offset, *shape, *strides)) < 0 or max(count, last + bool(count)) > len(values):
        raise ValueError("an array reaches beyond its storage")
    size = values.itemsize
    strided = np.lib.stride_tricks.as_strided(
        values[offset:], shape, [stride * size for stride in strides], writeable=False
    )
    return np.ascontiguousarray(strided).reshape(shape)
