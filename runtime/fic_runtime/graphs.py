"""One ONNX graph, opened on one device."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .devices import CPU, CUDA, MAX_THREADS, Device, providers_for, usable_cpus
from .errors import BundleError, DeviceError
from .manifest import GraphSpec, Tensor

log = logging.getLogger(__name__)

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
# TF32, the default since Ampere, keeps 10 of float32's 23 bits: other numbers than in training.
_PROVIDER_OPTIONS = {CUDA: {"use_tf32": "0"}}


class Graph:
    """An ONNX graph with one input and one output, ready to run; safe to use from many threads.

    Args:
        model: the ONNX file, or its content.
        name: what errors call it; the path of the file unless given.
        device: `cpu`, `cuda`, or `auto`, which takes CUDA where it works.
        providers: ONNX Runtime's execution providers instead of `device`; strict, in this order.
        threads: threads for one run; by default as many as this process may use.

    Raises:
        BundleError: the file is no graph that ONNX Runtime can open.
        DeviceError: the device or a provider that was asked for cannot be used here.
        ValueError: an unknown device, or a number of threads that is out of range.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        name: str | None = None,
        device: Device = "auto",
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads is 1 to {MAX_THREADS}; received {threads}")
        available = onnxruntime.get_available_providers()
        if providers is None:
            wanted = providers_for(device, available)
        elif isinstance(providers, str):
            raise TypeError(f"providers is a list of names; received {providers!r}")
        else:
            wanted = list(providers)
        missing = [name for name in wanted if name not in available]
        if missing or not wanted:
            raise DeviceError(
                f"providers {', '.join(missing) or 'none'}: not in this ONNX Runtime, which has "
                f"{', '.join(available)}; install the build of onnxruntime that has them"
            )
        self._name = name or ("the graph" if isinstance(model, bytes) else str(model))
        self._session = _open_session(
            model,
            self._name,
            wanted,
            threads or usable_cpus(),
            strict=providers is not None or device != "auto",
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f"{self._name}: has {len(inputs)} inputs and {len(outputs)} outputs instead of one "
                "each; export the bundle again"
            )
        self.input, self.output = _tensor(inputs[0]), _tensor(outputs[0])

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses."""
        return str(self._session.get_providers()[0])

    def run(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the output for a batch, whose first dimension is the number of items.

        Raises:
            DeviceError: the device cannot do it, most often for want of memory.
            ValueError: the batch has another element type or shape than the input.
        """
        shape = self.input.shape[1:]
        if batch.dtype != self.input.dtype or batch.shape[1:] != shape or not len(batch):
            raise ValueError(
                f"{self.input.name} is {self.input.dtype} of shape (n, {', '.join(map(str, shape))}"
                f") with n at least 1; received {batch.dtype} of shape {batch.shape}"
            )
        try:
            output: np.ndarray[Any, Any] = self._session.run(
                [self.output.name], {self.input.name: batch}
            )[0]
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise DeviceError(
                f"{self._name}: {self.provider} failed on a batch of {len(batch)} "
                f"({one_line(error)}); use smaller batches or device='cpu'"
            ) from error
        return output

    def check(self, spec: GraphSpec) -> None:
        """Compare the graph with what the manifest says of it.

        Raises:
            BundleError: name, element type or shape differ.
        """
        for found, expected in ((self.input, spec.input), (self.output, spec.output)):
            if found != expected:
                raise BundleError(
                    f"{spec.file}: has {found.name} {found.dtype} {found.shape} where the manifest "
                    f"says {expected.name} {expected.dtype} {expected.shape}; "
                    "export the bundle again"
                )


def _open_session(
    model: Path | bytes, name: str, wanted: list[str], threads: int, *, strict: bool
) -> Any:
    try:
        session = new_session(model, wanted, threads)
        reason = "ONNX Runtime left it out"
    except Exception as error:  # onnxruntime's errors share no base class but this one
        reason = one_line(error)
        session = None
    if session is not None and session.get_providers()[: len(wanted)] == wanted:
        return session
    # Is the file at fault or the device? The CPU tells.
    if session is None:
        try:
            session = new_session(model, [CPU], threads)
        except Exception as error:
            raise BundleError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} cannot open it "
                f"({one_line(error)}); upgrade onnxruntime or export the bundle again"
            ) from error
    if strict:
        raise DeviceError(
            f"{name}: {', '.join(wanted)} could not be started ({reason}); check the driver and "
            "its libraries (`pip install 'onnxruntime-gpu[cuda,cudnn]'` brings those of CUDA), or "
            "use device='cpu'"
        )
    log.warning(
        "%s: %s could not be started (%s), running on the CPU", Path(name).name, wanted[0], reason
    )
    return session


def new_session(
    model: Path | bytes, providers: list[str], threads: int, *, alone: bool = False
) -> Any:
    """Return ONNX Runtime's session of a model; the CPU does what the providers cannot.

    Args:
        alone: the CPU shall not help out.

    Raises:
        Exception: whatever ONNX Runtime raises where the model or the first provider does not work.
    """
    if CUDA in providers and hasattr(onnxruntime, "preload_dlls"):
        # Finds the CUDA and cuDNN libraries that were installed as wheels.
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what matters comes back as an exception
    names = providers if CPU in providers or alone else [*providers, CPU]
    if CPU not in names:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    asked = [(name, _PROVIDER_OPTIONS.get(name, {})) for name in names]
    # Its own fallback prints to stdout, where the answers go.
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=asked, enable_fallback=0)


def one_line(error: Exception) -> str:
    """Return what ONNX Runtime says of an error, without its line breaks."""
    return " ".join(str(error).split())[:300]


def _tensor(value: Any) -> Tensor:
    # A dynamic dimension is a name or None in ONNX Runtime, and None in a manifest.
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Tensor(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)
