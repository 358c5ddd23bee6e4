"""A graph of somebody else in ONNX Runtime as its author meant it, without any optimisation."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.devices import usable_cpus
from fic_runtime.graphs.onnx_runtime import onnxruntime

from ..errors import ConversionError, one_line
from ..graphs.files import is_large, write_graph
from ..graphs.foreign import ForeignGraph, PictureInput
from .wrapping import extract

# By ONNX Runtime's names of types.
_DTYPES: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


class PlainSession:
    """Runs a graph from its own input to one of its tensors.

    Raises:
        ConversionError: ONNX Runtime cannot open it.
    """

    def __init__(self, graph: ForeignGraph, picture: PictureInput, tensor: str) -> None:
        self._path = graph.path
        self._picture = picture
        self._tensor = tensor
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        whole = len(graph.model.graph.input) == 1 and tensor in graph.outputs and not graph.weights
        try:
            self._session: Any = self._open(graph.path if whole else self._extracted(graph))
        except ConversionError:
            raise
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise ConversionError(
                f"{graph.path}: cannot be opened by ONNX Runtime {onnxruntime.__version__} "
                f"({one_line(error)}); export it again, for this version"
            ) from error

    def run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the tensor for an array as the graph's input has it; its type is changed to fit.

        A graph for a fixed number of pictures gets copies of a single one.

        Raises:
            ConversionError: the graph does not take it.
        """
        count = self._picture.batch or len(pixels)
        if count != len(pixels):
            pixels = np.repeat(pixels[:1], count, axis=0)
        values: NDArray[Any] = pixels.astype(_DTYPES[self._session.get_inputs()[0].type])
        try:
            (result,) = self._session.run([self._tensor], {self._picture.name: values})
        except Exception as error:  # as above
            raise ConversionError(
                f"{self._path}: does not take pictures of the shape {values.shape} "
                f"({one_line(error)})"
            ) from error
        return np.asarray(result)

    def _extracted(self, graph: ForeignGraph) -> bytes | Path:
        model = extract(graph, self._tensor)
        if not is_large(model):
            return bytes(model.SerializeToString())
        self._folder = tempfile.TemporaryDirectory(prefix="fic-graph-")
        file = Path(self._folder.name) / "graph.onnx"
        write_graph(model, file, {}, checked=False)
        return file

    def _open(self, model: bytes | Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = usable_cpus()
        options.log_severity_level = 4
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
