"""Files as PyTorch wrote them before release 1.6, made without PyTorch."""

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
WritePth = Callable[..., Path]


@dataclass
class Storage:
    """Values in a row, and how a pickle tells of them."""

    key: str
    values: Array
    announced: int

    @property
    def identity(self) -> tuple[Any, ...]:
        kind = {"f": "FloatStorage", "i": "LongStorage"}[self.values.dtype.kind]
        element = getattr(sys.modules["torch"], kind)
        return ("storage", element, self.key, "cpu", self.announced, None)


@dataclass
class Tensor:
    """A view of a storage, with strides in elements."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        place = (self.storage, self.offset, self.shape, self.strides)
        return rebuild, (*place, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, Storage) else None


@contextmanager
def torch_names() -> Iterator[None]:
    """Let pickles name what is PyTorch's; for so long only, as other libraries look for it, too."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        yield


@pytest.fixture
def write_pth() -> WritePth:
    """Return a function that writes arrays, or anything else in their place, to a file.

    An array keeps the strides that it has in memory, as in files that were converted from
    TensorFlow.
    """

    def write(path: Path, arrays: Mapping[str, Any], **header: Any) -> Path:
        storages: list[Storage] = []

        def tensor(value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            # The values in the order of memory: from the longest stride to the shortest.
            order = np.argsort([-stride for stride in value.strides], kind="stable")
            values = np.ascontiguousarray(value.transpose(order)).ravel()
            strides = tuple(stride // value.itemsize for stride in value.strides)
            storages.append(Storage(str(len(storages)), values, len(values)))
            return Tensor(storages[-1], value.shape, strides)

        tensors = OrderedDict((name, tensor(value)) for name, value in arrays.items())
        storages += [each.storage for each in arrays.values() if isinstance(each, Tensor)]
        sizes = {"little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        parts = {
            "magic": 0x1950A86A20F9469CFC6C,
            "version": 1001,
            "system": {"protocol_version": 1001, **sizes},
            "state": tensors,
            "keys": [each.key for each in storages],
        }
        with path.open("wb") as file, torch_names():
            for part in (parts | header).values():
                Pickler(file, protocol=2).dump(part)
            for storage in storages:
                file.write(len(storage.values).to_bytes(8, "little") + storage.values.tobytes())
        return path

    return write
