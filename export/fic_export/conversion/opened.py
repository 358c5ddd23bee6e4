"""A model in memory, opened by the runtime however large it is."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from fic_runtime.graphs.graph import Graph

from ..graphs.files import is_large, write_graph


@contextmanager
def opened(model: onnx.ModelProto) -> Iterator[Graph]:
    """Give a model as the runtime opens it on the CPU; it is as it was afterwards.

    Raises:
        BundleError: ONNX Runtime cannot open it.
    """
    if not is_large(model):
        yield Graph(model.SerializeToString(), name="the graph", device="cpu")
        return
    with tempfile.TemporaryDirectory(prefix="fic-graph-") as folder:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # writing empties a large model of its weights
        file = Path(folder) / "graph.onnx"
        write_graph(copy, file, {}, checked=False)
        yield Graph(file, device="cpu")
