"""Engines that run the base during extraction: the exported graph, or the Keras model.

Both take the same uint8 pictures and give the same bottlenecks to 1e-3, so one cache may be
filled by either.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fic_export.errors import ConversionError
from fic_runtime.devices import CUDA, usable_cpus
from fic_runtime.errors import BundleError

from ..bases.opening import AnyBase
from ..options import EngineName

log = logging.getLogger(__name__)

# Each pass in flight keeps its own activations, so a machine of 64 cores must not hold 64.
_MOST_PASSES = 8


# What the drivers of NVIDIA, AMD and Windows' Linux make.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class Engine(Protocol):
    """Runner of the base on batches of pictures, from several threads at once."""

    name: str
    passes: int
    """How many batches may be in the base at the same time."""

    def run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return float32 bottlenecks (n, *shape) of uint8 pictures (n, height, width, 3)."""


@dataclass(frozen=True)
class ChosenEngine:
    """An engine, and the reason for it."""

    engine: Engine
    reason: str


def choose_engine(name: EngineName, base: AnyBase, *, few: bool = False) -> ChosenEngine:
    """Open the engine that was asked for; `auto` takes the faster one that works here.

    On a CPU the exported graph is the faster one for every base that was measured
    (`docs/why/benchmarks.md`); a GPU that only TensorFlow can use beats it.

    Args:
        few: only a few pictures are to come, so a graph that is at hand beats any that is not.

    Raises:
        ConversionError: engine `onnx` for a base that cannot be converted.
    """
    if not base.in_keras and name != "keras":
        return ChosenEngine(OnnxEngine(base.graph_file()), "the base is an ONNX graph")
    if name == "keras":
        return ChosenEngine(KerasEngine(base), "asked for")
    if name == "onnx":
        return ChosenEngine(OnnxEngine(base.graph_file()), "asked for")
    if few and base.has_graph:
        return ChosenEngine(OnnxEngine(base.graph_file()), "the exported graph is at hand")
    if not _onnx_has_cuda() and _tensorflow_has_gpu():
        return ChosenEngine(
            KerasEngine(base), "TensorFlow has a GPU here and ONNX Runtime does not"
        )
    try:
        engine = OnnxEngine(base.graph_file())
    except (ConversionError, BundleError) as error:
        log.warning("%s", error)
        return ChosenEngine(KerasEngine(base), "the base does not work in ONNX Runtime")
    return ChosenEngine(engine, f"the exported graph is the faster one on {engine.device}")


class OnnxEngine:
    """The exported base, run by the runtime: the cached bottlenecks are the deployed graph's own.

    On a CPU as many passes run side by side as there are processors, each on one thread: no
    thread ever waits for another within a pass.
    """

    name = "onnx"

    def __init__(self, file: Path | bytes, *, cpus: int | None = None) -> None:
        from fic_runtime.graphs.graph import Graph

        cpus = cpus or usable_cpus()
        on_gpu = _onnx_has_cuda()
        self.passes = 1 if on_gpu else min(cpus, _MOST_PASSES)
        self._graph = Graph(file, threads=max(1, cpus // self.passes))
        self.device = "the GPU" if self._graph.provider == CUDA else "the CPU"

    def run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the bottlenecks of a batch."""
        return self._graph.run(pixels)


class KerasEngine:
    """The Keras base, for GPU training boxes and for bases that cannot be converted."""

    name = "keras"
    passes = 1  # TensorFlow spreads one pass over all processors by itself

    def __init__(self, base: AnyBase) -> None:
        import tensorflow as tf

        model, pixel_numbers = base.model, base.preprocessing.pixels
        shape = (None, *model.input_shape[1:])

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])  # type: ignore[untyped-decorator] # no types
        def forward(pixels: Any) -> Any:
            return model(pixel_numbers.apply(tf.cast(pixels, tf.float32)), training=False)

        self._forward = forward

    def run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the bottlenecks of a batch."""
        bottlenecks: NDArray[Any] = self._forward(pixels).numpy()
        return bottlenecks


def _onnx_has_cuda() -> bool:
    from fic_runtime.graphs.onnx_runtime import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def _tensorflow_has_gpu() -> bool:
    # TensorFlow's import costs seconds, and without a driver it finds nothing.
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
