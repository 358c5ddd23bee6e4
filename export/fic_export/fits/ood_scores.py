"""Out-of-distribution scores fitted on bottlenecks, and a linear head to choose one by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fic_runtime.heads.ood_scores import (
    Array,
    Energy,
    Mahalanobis,
    MaximumProbability,
    NearestNeighbour,
    NormalisedMahalanobis,
    Score,
    normalised,
)

from .softmax import softmax


@dataclass(frozen=True)
class SoftmaxRegression:
    """Logits are features @ weights + bias; shapes (features, classes) and (classes,)."""

    weights: Array
    bias: Array

    def probabilities(self, features: Array) -> Array:
        """Return the softmax of the logits, (n, classes)."""
        return softmax(features @ self.weights + self.bias)


Fit: TypeAlias = Callable[[Array, Array, SoftmaxRegression | None], Score | None]

# Directions of the covariance that are kept: 32 to 256 were within a point
# (docs/why/ood-and-teaching.md).
_DIRECTIONS = 64
_OVERSAMPLING = 16
_POWER_ITERATIONS = 4
_NEIGHBOURS = 500
_SEED = 20180710

# Of fic's own linear head (docs/why/ood-and-teaching.md).
_DECAY = 0.03
_STEPS = 100


def fit_softmax_regression(features: Array, targets: Array) -> SoftmaxRegression:
    """Minimise the cross entropy with a decay of the weights, by accelerated gradient steps.

    Beck & Teboulle 2009, https://doi.org/10.1137/080716542. The features are standardised as fic's
    linear head does it.

    Args:
        features: (pictures, features).
        targets: the index of each picture's class, 0 to the number of classes less one.
    """
    mean, variance = features.mean(axis=0), features.var(axis=0, dtype=np.float64)
    factor = (1 / np.sqrt(variance + (variance.mean() or 1.0))).astype(np.float32)
    inputs = (features - mean) * factor
    wanted = np.eye(int(targets.max()) + 1, dtype=np.float32)[targets]
    step = 1 / (0.5 * _largest_square(inputs) / len(inputs) + 2 * _DECAY + 0.5)
    weights = ahead = np.zeros((inputs.shape[1], wanted.shape[1]), np.float32)
    bias = bias_ahead = np.zeros(wanted.shape[1], np.float32)
    pace = 1.0
    for _ in range(_STEPS):
        wrong = (softmax(inputs @ ahead + bias_ahead) - wanted) / np.float32(len(inputs))
        before, bias_before = weights, bias
        weights = ahead - np.float32(step) * (inputs.T @ wrong + 2 * _DECAY * ahead)
        bias = bias_ahead - np.float32(step) * wrong.sum(axis=0)
        following = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        momentum = np.float32((pace - 1) / following)
        ahead = weights + momentum * (weights - before)
        bias_ahead = bias + momentum * (bias - bias_before)
        pace = following
    weights = weights * factor[:, None]
    return SoftmaxRegression(weights, bias - mean @ weights)


def class_means(features: Array, targets: Array, classes: int) -> Array:
    """Return the mean features of each class, (classes, features); each has a picture."""
    in_order = np.argsort(targets, kind="stable")
    ends = np.cumsum(np.bincount(targets, minlength=classes))[:-1]
    # Class by class, so that no copy of all features is made.
    return np.stack([features[rows].mean(axis=0) for rows in np.split(in_order, ends)])


def largest_directions(rows: Array, count: int) -> tuple[Array, Array]:
    """Return the first right singular vectors, (features, count), and the squared singular values.

    Randomised, as in Halko, Martinsson & Tropp 2011, https://arxiv.org/abs/0909.4061. Rows that are
    all zero have no direction; the first axes stand in for it.
    """
    if not rows.any():
        return np.eye(rows.shape[1], count, dtype=np.float32), np.zeros(count)
    width = min(count + _OVERSAMPLING, *rows.shape)
    basis = np.random.default_rng(_SEED).standard_normal((rows.shape[1], width), np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = _orthonormal(rows.T @ (rows @ basis))
    basis = _orthonormal(basis)  # again: once leaves what rounding spoils
    squares, turn = np.linalg.eigh(_gram(rows @ basis))
    largest = np.argsort(-squares, kind="stable")[:count]
    return basis @ turn[:, largest].astype(np.float32), np.maximum(squares[largest], 0.0)


def _fit_probability(features: Array, targets: Array, head: SoftmaxRegression | None) -> Score:
    return MaximumProbability()


def _fit_energy(features: Array, targets: Array, head: SoftmaxRegression | None) -> Score | None:
    if head is None:
        return None
    scale = _scale(features)
    return Energy(
        weights=_half(head.weights / scale),
        bias=head.bias.astype(np.float32),
        scale=np.asarray(scale, np.float32),
    )


def _fit_mahalanobis(features: Array, targets: Array, head: SoftmaxRegression | None) -> Score:
    return _mahalanobis(Mahalanobis, features, targets)


def _fit_normalised(features: Array, targets: Array, head: SoftmaxRegression | None) -> Score:
    return _mahalanobis(NormalisedMahalanobis, normalised(features), targets)


def _fit_neighbours(features: Array, targets: Array, head: SoftmaxRegression | None) -> Score:
    chosen = np.random.default_rng(_SEED).permutation(len(features))[:_NEIGHBOURS]
    return NearestNeighbour(neighbours=_half(normalised(features[np.sort(chosen)])))


# In the order of what they cost to keep, which settles ties.
FITS: dict[str, Fit] = {
    MaximumProbability.name: _fit_probability,
    Energy.name: _fit_energy,
    Mahalanobis.name: _fit_mahalanobis,
    NormalisedMahalanobis.name: _fit_normalised,
    NearestNeighbour.name: _fit_neighbours,
}


def _mahalanobis(kind: type[Mahalanobis], features: Array, targets: Array) -> Mahalanobis:
    scale = _scale(features)
    features = (features * np.float64(scale)).astype(np.float32)
    centre = features.mean(axis=0)
    classes, indices = np.unique(targets, return_inverse=True)
    means = class_means(features, indices, len(classes))
    within = features - means[indices]
    freedom = max(1, len(features) - len(classes))
    total = float((within.astype(np.float64) ** 2).sum()) / freedom
    # Half of what there is at most, so that there is a rest to take the last variance from.
    kept = max(1, min(_DIRECTIONS, freedom // 2, features.shape[1] // 2))
    directions, squares = largest_directions(within, kept)
    variances = squares / freedom
    rest = max(total - float(variances.sum()), 1e-6 * total, 1e-12) / max(
        1, features.shape[1] - kept
    )
    weights = 1 / np.maximum(variances, rest) - 1 / rest
    return kind(
        centre=centre.astype(np.float32),
        means=_half(means - centre),
        directions=_half(directions),
        weights=weights.astype(np.float32),
        rest=np.asarray(1 / rest, np.float32),
        scale=np.asarray(scale, np.float32),
    )


def _orthonormal(columns: Array) -> Array:
    """Return a nearly orthonormal basis of the columns' span, much faster than NumPy's qr."""
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float32).tiny)
    squares, turn = np.linalg.eigh(_gram(columns))
    # What is rounding and no direction stays small.
    squares = np.maximum(squares, 1e-10 * squares.max())
    return np.asarray(columns @ (turn / np.sqrt(squares)).astype(np.float32))


def _gram(columns: Array) -> Array:
    return (columns.T @ columns).astype(np.float64)


def _scale(features: Array) -> float:
    """Return the factor that makes the typical deviation 1.

    Bottlenecks of random weights may be as small as 1e-18, which float16 has no form for.
    """
    return 1 / (float(np.sqrt(features.var(axis=0, dtype=np.float64).mean())) or 1.0)


def _half(values: Array) -> Array:
    """Return the values as the bundle will hold them, in float32: rounded to float16."""
    return np.asarray(values.astype(np.float16), np.float32)


def _largest_square(rows: Array) -> float:
    """Return the square of the largest singular value, by power iteration, rounded up."""
    direction = np.ones(rows.shape[1], np.float32)
    square = 0.0
    for _ in range(20):
        direction = rows.T @ (rows @ direction)
        square = float(np.linalg.norm(direction))
        direction = direction / np.float32(square or 1.0)
    return 1.1 * square
