"""One ONNX graph, opened on one device, and arrays that stay on it for the next graph."""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ..devices import CPU, CUDA, Device, chosen_threads, providers_for
from ..errors import BundleError, DeviceError, Log, one_line
from .cache import LEAST_BYTES, MOST_BYTES, graph_cache
from .callers import Callers
from .interrupting import Interruptible
from .onnx_runtime import onnxruntime
from .optimised import Opened, cached_session, passing_cache
from .sessions import SessionOptions, new_session
from .spec import GraphSpec, Tensor

log: Log = Log(__name__)


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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # `copy` came with NumPy 2; an array on the host can always be had without another one.
        return self._on_host.astype(dtype or self.dtype, copy=bool(copy))

    @cached_property
    def _on_host(self) -> NDArray[Any]:
        return np.asarray(self.value.numpy())


Model: TypeAlias = Path | bytes
Batch: TypeAlias = NDArray[Any] | DeviceArray

# What ONNX Runtime calls the memory of the providers that have their own.
_OWN_MEMORY = {CUDA: "cuda"}
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class GraphOptions(TypedDict, total=False):
    """Where and how a graph runs.

    Attributes:
        device: `cpu`, `cuda`, or `auto`, which takes CUDA where it works; FIC_DEVICE or `auto` by
            default.
        providers: ONNX Runtime's execution providers instead of `device`; strict, in this order.
        allow_fallback: take the CPU where `device` or `providers` cannot be had.
        threads: threads for one run; FIC_THREADS or as many as this process may use by default.
        lean_memory: give memory back after each run instead of keeping it for the next.
    """

    device: Device | None
    providers: Sequence[str] | None
    allow_fallback: bool
    threads: int | None
    lean_memory: bool


class Graph:
    """An ONNX graph with one input and one output, ready to run; safe to use from many threads.

    In a process that was forked, the graph is opened anew on first use.
    Only where `further_outputs` says so it has more outputs, which `run_outputs` gives.

    Args:
        model: the ONNX file, or its content.
        name: what errors call it; the path of the file unless given.
        digest: what identifies the model, which was checked against it; the optimised form is
            then kept in the user's cache folder, if the graph is large and runs on the CPU.
        reopen: what returns the model again in a process that was forked; `model` by default.
        further_outputs: how many outputs the graph has besides the first.
        options: see `GraphOptions`.

    Raises:
        BundleError: the file is not a graph that ONNX Runtime can open.
        DeviceError: the device or a provider that was asked for cannot be used here.
        ValueError: an unknown device, or a number of threads that is out of range.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str | None = None,
        digest: str | None = None,
        reopen: Callable[[], Model] | None = None,
        further_outputs: int = 0,
        **options: Unpack[GraphOptions],
    ) -> None:
        self._options, strict = _session_options(**options)
        self._model = reopen or (lambda: model)
        self._digest = digest
        self._name = name or ("the graph" if isinstance(model, bytes) else str(model))
        opened = _open_session(model, self._name, self._options, digest, strict=strict)
        self._session, self._shared = opened
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 + further_outputs:
            raise BundleError(
                f"{self._name}: has {len(inputs)} inputs and {len(outputs)} outputs instead of one "
                f"{f'and {1 + further_outputs}' if further_outputs else 'each'}; "
                "export the bundle again"
            )
        self.input: Tensor = _tensor(inputs[0])
        self.output: Tensor = _tensor(outputs[0])
        self.further: tuple[Tensor, ...] = tuple(map(_tensor, outputs[1:]))
        self.provider: str = str(self._session.get_providers()[0])
        """The execution provider that ONNX Runtime really uses."""
        log.info("%s: runs on %s with %d threads", self._name, self.provider, self._options.threads)
        self._runs = Interruptible()
        self._reopening = threading.Lock()
        self._callers = Callers(self.threads)
        self._one_thread: tuple[Graph, ...] | None = None  # not asked for yet, or what there is
        _graphs.add(self)

    @property
    def threads(self) -> int:
        """How many threads one run has."""
        return self._options.threads

    def with_one_thread(self) -> "Graph":
        """Return the same graph with one thread for a run, for several runs at the same time.

        Threads that share one run wait for each other, so this gives more runs a second. It is made
        once, when it is first asked for, and shares the weights. Where they cannot be shared, on
        other devices than the CPU, and where one thread is all there is, it is this graph.
        """
        if self.provider != CPU or self.threads == 1:
            return self
        if self._one_thread is None:
            with self._reopening:
                if self._one_thread is None:
                    self._one_thread = self._opened_with_one_thread()
        return next(iter(self._one_thread), self)

    def _opened_with_one_thread(self) -> "tuple[Graph, ...]":
        """Return the graph with one thread; nothing where its weights would be there twice."""
        options = self._options._replace(threads=1)
        session = None
        try:
            if self._shared is not None:
                session = self._shared.session(options)
            elif _size(model := self._model()) < LEAST_BYTES:
                session = new_session(model, options)
            elif _size(model) <= MOST_BYTES:
                with passing_cache() as cache:
                    opened = cached_session(model, self._digest or "", self._options, cache)
                    if opened.shared is not None:
                        session = opened.shared.session(options)
                        self._session, self._shared = opened
        except Exception as error:  # onnxruntime's errors share no base class but this one
            log.info("%s: has no session of one thread (%s)", self._name, one_line(error))
        if session is None:
            return ()
        graph = copy(self)
        graph._options, graph._session, graph._shared = options, session, self._shared
        graph._reopening = threading.Lock()
        _graphs.add(graph)
        return (graph,)

    def run(self, batch: Batch) -> NDArray[Any]:
        """Return the output for a batch, whose first dimension is the number of items.

        Raises:
            DeviceError, ValueError: see `run_outputs`.
        """
        return self.run_outputs(batch, (self.output.name,))[0]

    def run_outputs(self, batch: Batch, names: Sequence[str]) -> list[NDArray[Any]]:
        """Return the outputs of these names for a batch.

        With all threads; with one where so many other threads run the graph that this is quicker.

        Raises:
            DeviceError: the device cannot do it, most often for want of memory.
            ValueError: the batch has another element type or shape than the input.
        """
        if self.threads == 1:
            return self._outputs(batch, names)
        with self._callers as are_many:
            graph = self.with_one_thread() if are_many else self
            return graph._outputs(batch, names)

    def _outputs(self, batch: Batch, names: Sequence[str]) -> list[NDArray[Any]]:
        if isinstance(batch, DeviceArray) and batch.provider != self.provider:
            batch = np.asarray(batch)
        session, wanted = self._session_for(batch), list(names)
        try:
            if isinstance(batch, DeviceArray):
                there = {self.input.name: batch.value}
                values = self._runs.call(
                    lambda options: session.run_with_ort_values(wanted, there, options), len(batch)
                )
                return [np.asarray(value.numpy()) for value in values]
            given = {self.input.name: batch}
            outputs: list[NDArray[Any]] = self._runs.call(
                lambda options: session.run(wanted, given, options), len(batch)
            )
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise self._failure(batch, error) from error
        return outputs

    def interrupt(self) -> None:
        """End the runs that are at work in other threads, with a DeviceError."""
        self._runs.interrupt()

    def run_on_device(self, batch: NDArray[Any]) -> Batch:
        """Return the output where it was computed: on CUDA it stays in the card's memory.

        For another graph on the same device, which then needs no copy; elsewhere as `run`.

        Raises:
            DeviceError, ValueError: see `run_outputs`.
        """
        memory = _OWN_MEMORY.get(self.provider)
        if memory is None:
            return self.run(batch)
        session = self._session_for(batch)
        try:
            binding = session.io_binding()
            # The binding uses the array's memory as it lies there.
            binding.bind_cpu_input(self.input.name, np.ascontiguousarray(batch))
            binding.bind_output(self.output.name, memory)
            self._runs.call(
                lambda options: session.run_with_iobinding(binding, options), len(batch)
            )
            (value,) = binding.get_outputs()
        except Exception as error:  # as above
            raise self._failure(batch, error) from error
        return DeviceArray(value, dtype=self.output.dtype, provider=self.provider)

    def _session_for(self, batch: Batch) -> Any:
        shape = self.input.shape[1:]
        if batch.dtype != self.input.dtype or batch.shape[1:] != shape or not len(batch):
            raise ValueError(
                f"{self.input.name} is {self.input.dtype} of shape (n, {', '.join(map(str, shape))}"
                f") with n at least 1; received {batch.dtype} of shape {batch.shape}"
            )
        return self._session or self._reopen()

    def _failure(self, batch: Batch, error: Exception) -> DeviceError:
        return DeviceError(
            f"{self._name}: {self.provider} failed on a batch of {len(batch)} "
            f"({one_line(error)}); use smaller batches or device='cpu'"
        )

    def check(self, spec: GraphSpec, further: Sequence[Tensor] = ()) -> None:
        """Compare the graph with what the manifest says of it and of its further outputs.

        Raises:
            BundleError: name, element type or shape differ.
        """
        found_there = (self.input, self.output, *self.further)
        for found, expected in zip(found_there, (spec.input, spec.output, *further), strict=True):
            if found != expected:
                raise BundleError(
                    f"{spec.file}: has {found.name} {found.dtype} {found.shape} where the manifest "
                    f"says {expected.name} {expected.dtype} {expected.shape}; "
                    "export the bundle again"
                )

    def _reopen(self) -> Any:
        with self._reopening:
            if self._session is None:
                if self.provider != CPU:
                    raise DeviceError(
                        f"{self._name}: {self.provider} does not work in a process that was "
                        "forked; start it with multiprocessing's 'spawn', or make the classifier "
                        "in it"
                    )
                self._session = self._shared_session()
            if self._session is None:
                self._session, self._shared = _open_session(
                    self._model(), self._name, self._options, self._digest, strict=True
                )
            return self._session

    def _shared_session(self) -> Any:
        """Return a session over the weights that the parent mapped, if it did."""
        if self._shared is not None:
            with suppress(Exception):  # onnxruntime's errors share no base class but this one
                return self._shared.session(self._options)
        return None

    def _leave_to_parent(self) -> None:
        """Forget the session of the process that this one was forked from.

        Its threads are not here. Nobody may wait for them, so its destructor must never run: the
        reference that is counted here is never given back. Its memory is the parent's, unchanged.
        """
        import ctypes

        self._reopening = threading.Lock()
        self._callers = Callers(self.threads)
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(getattr(self._session, "_sess", None)))
            self._session = None


_graphs: weakref.WeakSet[Graph] = weakref.WeakSet()


def _after_fork() -> None:
    for graph in list(_graphs):
        graph._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _session_options(
    *,
    device: Device | None = None,
    providers: Sequence[str] | None = None,
    allow_fallback: bool = False,
    threads: int | None = None,
    lean_memory: bool = False,
) -> tuple[SessionOptions, bool]:
    """Return how to open a session, and whether its providers are strict."""
    available = onnxruntime.get_available_providers()
    wanted = providers_for(device, available, providers=providers, allow_fallback=allow_fallback)
    options = SessionOptions(
        providers=wanted.providers, threads=chosen_threads(threads), lean_memory=lean_memory
    )
    return options, wanted.strict


def _open_session(
    model: Model, name: str, options: SessionOptions, digest: str | None, *, strict: bool
) -> Opened:
    wanted = list(options.providers)
    try:
        opened = _session(model, options, digest)
        reason = "ONNX Runtime left it out"
    except Exception as error:  # onnxruntime's errors share no base class but this one
        reason = one_line(error)
        opened = None
    if opened is not None and opened.session.get_providers()[: len(wanted)] == wanted:
        return opened
    # Is the file at fault or the device? The CPU tells.
    if opened is None:
        try:
            opened = Opened(new_session(model, options._replace(providers=(CPU,))))
        except Exception as error:
            raise BundleError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} cannot open it "
                f"({one_line(error)}); upgrade onnxruntime or export the bundle again"
            ) from error
    if strict:
        raise DeviceError(
            f"{name}: {', '.join(wanted)} could not be started ({reason}); check the driver and "
            "its libraries (`pip install 'onnxruntime-gpu[cuda,cudnn]'` brings those of CUDA), use "
            "device='cpu', or let allow_fallback=True take it"
        )
    log.warning(
        "%s: %s could not be started (%s), running on the CPU", Path(name).name, wanted[0], reason
    )
    return opened


def _session(model: Model, options: SessionOptions, digest: str | None) -> Opened:
    cache = graph_cache()
    if (
        cache is None
        or digest is None
        or options.providers != (CPU,)
        or not LEAST_BYTES <= _size(model) <= MOST_BYTES
    ):
        return Opened(new_session(model, options))
    return cached_session(model, digest, options, cache)


def _size(model: Model) -> int:
    return len(model) if isinstance(model, bytes) else model.stat().st_size


def _tensor(value: Any) -> Tensor:
    # A dynamic dimension is a name or None in ONNX Runtime, and None in a manifest.
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Tensor(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)
