"""Heads of dense layers, `linear` and `mlp`, as arrays: built, asked and changed without Keras.

TensorFlow's import takes longer than the training of such a head. `fic.heads.dense_files` keeps
them in Keras's own format.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .building import HeadChoice, Statistics, scaled
from .keras_random import glorot_uniform, layer_seeds

if TYPE_CHECKING:
    import keras

# The product of 197 bottlenecks and a kernel of five classes: 0.03 ms of processor time in
# pieces, and on a busy machine 2 ms at once, because OpenBLAS then takes threads that wait.
_SMALL_PRODUCT = 1 << 24  # multiplications
_ROWS_WITHOUT_THREADS = 128

Head: TypeAlias = "DenseHead | keras.Model"
"""Any head: with `input_shape`, `output_shape`, `predict_on_batch`, `get_weights`."""

# As in Keras's Normalization: a smaller deviation counts as this.
_SMALLEST_DEVIATION = np.float32(1e-7)


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseHead:
    """Pooled and standardized bottlenecks, through one or two dense layers, to probabilities.

    Attributes:
        shape: of one bottleneck, (features,) or (height, width, features); maps are averaged.
        scale: bottlenecks are multiplied by it before they are standardized.
        mean: of each feature after that, float32 (features,).
        variance: the same.
        weights: kernel (inputs, outputs) and bias (outputs,) of each dense layer, all float32: two
            arrays, or four with a hidden layer, whose ReLU comes first.
        dropout: share of the hidden layer that is left out in each training step.
    """

    shape: tuple[int, ...]
    scale: float
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    weights: tuple[NDArray[np.float32], ...]
    dropout: float = 0.0

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return len(self.weights[-1])

    @property
    def is_mlp(self) -> bool:
        """Whether there is a hidden layer."""
        return len(self.weights) == 4

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of bottlenecks, as Keras's models tell it."""
        return (None, *self.shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the answers, as Keras's models tell it."""
        return (None, self.classes)

    def features(self, bottlenecks: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the dense layers take, (n, features), of bottlenecks (n, *shape)."""
        pooled = bottlenecks if bottlenecks.ndim == 2 else bottlenecks.mean(axis=(1, 2))
        features: NDArray[np.float32] = np.multiply(pooled, np.float32(self.scale), dtype="f4")
        features -= self.mean
        features /= np.maximum(np.sqrt(self.variance), _SMALLEST_DEVIATION)
        return features

    def predict_on_batch(self, bottlenecks: NDArray[Any]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) of bottlenecks (n, *shape), as Keras's models do."""
        features = self.features(np.asarray(bottlenecks))
        if self.is_mlp:
            features = _product(features, self.weights[0]) + self.weights[1]
            np.maximum(features, 0, out=features)
        return softmax(_product(features, self.weights[-2]) + self.weights[-1])

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Return copies of the weights, as Keras's models do."""
        return [array.copy() for array in self.weights]

    def with_weights(self, weights: Sequence[NDArray[Any]]) -> "DenseHead":
        """Return the same head with other weights, copied.

        Raises:
            ValueError: they have other shapes.
        """
        given = [array.shape for array in weights]
        wanted = [array.shape for array in self.weights]
        if given != wanted:
            raise ValueError(f"the shapes {given} where {wanted} are needed")
        copies = (np.array(array, np.float32, order="C") for array in weights)
        return replace(self, weights=tuple(copies))


def build_dense(
    choice: HeadChoice, shape: Sequence[int], classes: int, statistics: Statistics, *, seed: int
) -> DenseHead:
    """Return an untrained head of the kind `linear` or `mlp`, with the weights that Keras draws."""
    scale, mean, variance = scaled(statistics)
    features = len(mean)
    hidden_seed, _, last_seed = layer_seeds(seed, 3)
    weights: list[NDArray[np.float32]] = []
    if choice.kind == "mlp":
        weights = [
            glorot_uniform(hidden_seed, features, choice.units),
            np.zeros(choice.units, np.float32),
        ]
        features = choice.units
    else:
        last_seed = hidden_seed
    weights += [glorot_uniform(last_seed, features, classes), np.zeros(classes, np.float32)]
    return DenseHead(
        shape=tuple(shape),
        scale=scale,
        mean=mean,
        variance=variance,
        weights=tuple(weights),
        dropout=choice.dropout if choice.kind == "mlp" else 0.0,
    )


def _product(features: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrix product; a small one without threads, which cost more than it does."""
    if len(features) * kernel.size > _SMALL_PRODUCT:
        return features @ kernel
    starts = range(0, len(features), _ROWS_WITHOUT_THREADS)
    if len(starts) < 2:
        return features @ kernel
    return np.concatenate(
        [features[start : start + _ROWS_WITHOUT_THREADS] @ kernel for start in starts]
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities (n, classes) of logits (n, classes), which are used up."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
