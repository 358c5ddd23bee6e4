"""The score for unknown pictures as nodes of an ONNX graph, in operators that every engine has.

All values are two-dimensional; `fic_runtime.heads.ood_scores` has the same arithmetic in NumPy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fic_runtime.heads.ood_scores import (
    Energy,
    Mahalanobis,
    MaximumProbability,
    NearestNeighbour,
    NormalisedMahalanobis,
    Score,
)

OOD_SCORE = "ood_score"
# In the metadata of what gives the score.
OOD_THRESHOLD = "ood_threshold"

_TINY = float(np.finfo(np.float32).tiny)


def append_ood_score(
    graph: onnx.GraphProto, score: Score, *, bottleneck: str, probabilities: str, opset: int
) -> None:
    """Let a graph give `ood_score`, float32 (n, 1), as one more output.

    Args:
        graph: the graph, changed in place.
        score: the method with its numbers.
        bottleneck: name of the tensor (n, features), or (n, height, width, features).
        probabilities: name of the tensor (n, labels).
        opset: version of the standard operators that the graph is written in.
    """
    nodes = _Nodes(graph, opset)
    _WRITERS[type(score)](nodes, score, nodes.pooled(bottleneck), probabilities)
    graph.node[-1].output[0] = OOD_SCORE
    graph.output.append(helper.make_tensor_value_info(OOD_SCORE, TensorProto.FLOAT, ["n", 1]))


def score_graph(
    score: Score, *, bottleneck: tuple[int, ...], labels: int, opset: int
) -> onnx.ModelProto:
    """Return a graph of its own from `bottleneck` and `probabilities` to `ood_score`.

    Args:
        score: the method with its numbers.
        bottleneck: shape of one bottleneck.
        labels: how many there are.
        opset: version of the standard operators to write it in.
    """
    sizes = {"bottleneck": bottleneck, "probabilities": (labels,)}
    graph = helper.make_graph(
        [],
        OOD_SCORE,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
            for name, shape in sizes.items()
        ],
        [],
    )
    append_ood_score(
        graph, score, bottleneck="bottleneck", probabilities="probabilities", opset=opset
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


class _Nodes:
    """Appends nodes to a graph, each of which returns the name of its output."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self._graph = graph
        self._opset = opset
        self._count = 0

    def __call__(
        self, operator: str, *inputs: str | NDArray[Any] | float, **attributes: Any
    ) -> str:
        """Append a node; an input that is a number or an array becomes a constant."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        output = self._name(operator)
        self._graph.node.append(helper.make_node(operator, names, [output], output, **attributes))
        return output

    def reduced(self, operator: str, name: str) -> str:
        """Append the reduction of each row, (n, 1)."""
        return self._reduction(operator, name, [1], keepdims=1)

    def squares(self, name: str) -> str:
        """Append the sum of the squares of each row, (n, 1)."""
        return self.reduced("ReduceSum", self("Mul", name, name))

    def pooled(self, name: str) -> str:
        """Append the mean over the locations of a feature map; a vector stays."""
        if len(self._shape(name)) <= 2:
            return name
        axes = list(range(1, len(self._shape(name)) - 1))
        return self._reduction("ReduceMean", name, axes, keepdims=0)

    def lengths(self, name: str) -> str:
        """Append the length of each row, (n, 1), by the largest first, which keeps its square."""
        largest = self("Max", self.reduced("ReduceMax", self("Abs", name)), _TINY)
        within = self("Sqrt", self.squares(self("Div", name, largest)))
        return self("Mul", largest, self("Max", within, 1.0))

    def _reduction(self, operator: str, name: str, axes: list[int], *, keepdims: int) -> str:
        # Axes became an input in opset 13 for sums and in opset 18 for all others.
        if self._opset >= (13 if operator == "ReduceSum" else 18):
            return self(operator, name, np.array(axes, np.int64), keepdims=keepdims)
        return self(operator, name, axes=axes, keepdims=keepdims)

    def _constant(self, value: NDArray[Any] | float) -> str:
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{OOD_SCORE}/{kind}_{self._count}"

    def _shape(self, name: str) -> list[Any]:
        known = {value.name: value for value in (*self._graph.input, *self._graph.value_info)}
        return list(known[name].type.tensor_type.shape.dim)


def _probability(nodes: _Nodes, score: MaximumProbability, _: str, probabilities: str) -> None:
    nodes("Sub", 1.0, nodes.reduced("ReduceMax", probabilities))


def _energy(nodes: _Nodes, score: Energy, features: str, _: str) -> None:
    logits = nodes(
        "Add", nodes("MatMul", nodes("Mul", features, score.scale), score.weights), score.bias
    )
    largest = nodes.reduced("ReduceMax", logits)
    powers = nodes("Exp", nodes("Sub", logits, largest))
    nodes("Neg", nodes("Add", largest, nodes("Log", nodes.reduced("ReduceSum", powers))))


def _mahalanobis(nodes: _Nodes, score: Mahalanobis, features: str, _: str) -> None:
    _distances(nodes, score, nodes("Mul", features, score.scale))


def _normalised(nodes: _Nodes, score: NormalisedMahalanobis, features: str, _: str) -> None:
    scaled = nodes("Mul", features, nodes("Div", float(score.scale), nodes.lengths(features)))
    _distances(nodes, score, scaled)


def _distances(nodes: _Nodes, score: Mahalanobis, scaled: str) -> None:
    means_along = score.means @ score.directions
    means_own = score.rest * (score.means**2).sum(axis=1) + means_along**2 @ score.weights
    offset = nodes("Sub", scaled, score.centre)
    along = nodes("MatMul", offset, score.directions)
    weighted = nodes("Mul", along, score.weights)
    own = nodes(
        "Add",
        nodes("Mul", nodes.squares(offset), float(score.rest)),
        nodes.reduced("ReduceSum", nodes("Mul", weighted, along)),
    )
    cross = nodes(
        "Add",
        nodes("MatMul", offset, 2 * float(score.rest) * score.means.T),
        nodes("MatMul", weighted, 2 * means_along.T),
    )
    nearest = nodes.reduced("ReduceMax", nodes("Sub", cross, means_own))
    nodes("Sub", own, nearest)


def _neighbours(nodes: _Nodes, score: NearestNeighbour, features: str, _: str) -> None:
    unit = nodes("Div", features, nodes.lengths(features))
    nearest = nodes.reduced("ReduceMax", nodes("MatMul", unit, score.neighbours.T))
    nodes("Relu", nodes("Sub", 1.0, nearest))


_WRITERS: dict[type, Callable[[_Nodes, Any, str, str], None]] = {
    MaximumProbability: _probability,
    Energy: _energy,
    Mahalanobis: _mahalanobis,
    NormalisedMahalanobis: _normalised,
    NearestNeighbour: _neighbours,
}
