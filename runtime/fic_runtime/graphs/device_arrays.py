"""Arrays that stay in the memory of the device that computed them, for the next graph on it."""

from functools import cached_property
from typing import Any

import numpy as np


class DeviceArray:
    """An output of a graph in a device's own memory.

    `np.asarray` brings it to the host, which happens once however often it is asked for.

    Args:
        value: ONNX Runtime's OrtValue.
        dtype: the element type, as in `Tensor.dtype`.
        provider: the execution provider that computed it.
    """

    def __init__(self, value: Any, *, dtype: str, provider: str) -> None:
        self.value = value
        self.dtype = dtype
        self.provider = provider
        self.shape: tuple[int, ...] = tuple(value.shape())

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> np.ndarray[Any, np.dtype[Any]]:
        # `copy` came with NumPy 2; an array on the host can always be had without another one.
        return self._on_host.astype(dtype or self.dtype, copy=bool(copy))

    @cached_property
    def _on_host(self) -> np.ndarray[Any, np.dtype[Any]]:
        return np.asarray(self.value.numpy())
