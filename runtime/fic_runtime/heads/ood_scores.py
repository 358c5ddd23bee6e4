"""Out-of-distribution scores: the higher, the more a picture is an outlier.

All but the first start from the pooled bottleneck, which costs little beside the base that made it.
`fic_export.fits.out_of_distribution` fits their numbers and chooses one for a bundle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_TINY = np.finfo(np.float32).tiny
_SMALL, _LARGE = 1e-20, 1e30  # far from where squares lose digits in float32, or overflow


class Score(Protocol):
    """One method with its numbers."""

    name: ClassVar[str]

    def score(self, features: Array, probabilities: Array) -> Array:
        """Return the score of each picture, (n,).

        Args:
            features: the pooled bottlenecks, float32 (n, features).
            probabilities: the head's answers, (n, labels).
        """

    def arrays(self) -> Mapping[str, Array]:
        """Return the numbers that the bundle holds, by their names."""

    def features(self) -> int | None:
        """Return how many features the numbers are for; None for any.

        Raises:
            ValueError: they do not fit each other.
        """


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaximumProbability:
    """One less the largest probability: Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136.

    It needs no numbers.
    """

    name: ClassVar[str] = "maximum_probability"

    def score(self, features: Array, probabilities: Array) -> Array:
        """See `Score`."""
        return np.asarray(1.0 - probabilities.max(axis=1))

    def arrays(self) -> Mapping[str, Array]:
        """See `Score`."""
        return {}

    def features(self) -> int | None:
        """See `Score`."""
        return None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Energy:
    """-log Σ exp(logits): Liu et al. 2020, https://arxiv.org/abs/2010.03759.

    The logits are those of a linear classifier of its own, since a softmax cannot be undone.

    Attributes:
        weights: (features, classes).
        bias: (classes,).
        scale: of the features, shape ().
    """

    name: ClassVar[str] = "energy"
    weights: Array
    bias: Array
    scale: Array

    def score(self, features: Array, probabilities: Array) -> Array:
        """See `Score`."""
        logits = (features * self.scale) @ self.weights + self.bias
        largest = logits.max(axis=1)
        return np.asarray(-largest - np.log(np.exp(logits - largest[:, None]).sum(axis=1)))

    def arrays(self) -> Mapping[str, Array]:
        """See `Score`."""
        return {"weights": self.weights, "bias": self.bias, "scale": self.scale}

    def features(self) -> int | None:
        """See `Score`."""
        features, classes = self.weights.shape
        _check_shapes((self.bias, (classes,)), (self.scale, ()))
        return int(features)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Mahalanobis:
    """Squared Mahalanobis distance to the nearest class mean, the classes sharing a covariance.

    Lee et al. 2018, https://arxiv.org/abs/1807.03888. Of the covariance the largest directions are
    kept, and one variance for all others, as in probabilistic principal component analysis
    (Tipping & Bishop 1999). With s = 1 / that variance and λ the variance in direction u, the
    distance of z = scale · x - centre to a mean μ is s·|z-μ|² + Σ (1/λ - s)·(u·(z-μ))².

    Attributes:
        centre: mean of all, (features,).
        means: of each class, less the centre, (classes, features).
        directions: orthonormal, (features, kept).
        weights: 1/λ - s of each direction, (kept,).
        rest: s, shape ().
        scale: shape ().
    """

    name: ClassVar[str] = "mahalanobis"
    centre: Array
    means: Array
    directions: Array
    weights: Array
    rest: Array
    scale: Array

    def score(self, features: Array, probabilities: Array) -> Array:
        """See `Score`."""
        return self._distances(features * self.scale)

    def _distances(self, scaled: Array) -> Array:
        # Each call into NumPy counts beside the few milliseconds of a small base.
        offset = scaled - self.centre
        products, kept = offset @ self._columns, len(self.weights)
        along, on_means = products[:, :kept], products[:, kept:]
        means_along, means_own = self._of_means
        weighted = along * self.weights
        # |a-b|² = |a|² - 2ab + |b|², so that nothing of the shape (n, classes, features) is made.
        own = self.rest * _squares(offset) + np.einsum("ij,ij->i", weighted, along)
        cross = self.rest * on_means + weighted @ means_along.T
        return np.asarray((own[:, None] - 2 * cross + means_own).min(axis=1))

    @cached_property
    def _columns(self) -> Array:
        return np.concatenate([self.directions, self.means.T], axis=1)

    @cached_property
    def _of_means(self) -> tuple[Array, Array]:
        along = self.means @ self.directions
        return along, self.rest * (self.means**2).sum(axis=1) + along**2 @ self.weights

    def arrays(self) -> Mapping[str, Array]:
        """See `Score`."""
        return {
            "centre": self.centre,
            "means": self.means,
            "directions": self.directions,
            "weights": self.weights,
            "rest": self.rest,
            "scale": self.scale,
        }

    def features(self) -> int | None:
        """See `Score`."""
        features, kept = self.directions.shape
        _check_shapes(
            (self.centre, (features,)),
            (self.means, (len(self.means), features)),
            (self.weights, (kept,)),
            (self.rest, ()),
            (self.scale, ()),
        )
        return int(features)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NormalisedMahalanobis(Mahalanobis):
    """The same, of bottlenecks divided by their length.

    Mueller & Hein 2025, https://arxiv.org/abs/2505.18032.
    """

    name: ClassVar[str] = "normalised_mahalanobis"

    def score(self, features: Array, probabilities: Array) -> Array:
        """See `Score`."""
        return self._distances(features * (self.scale / _lengths(features)))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NearestNeighbour:
    """One less the cosine to the nearest training picture: Sun et al. 2022.

    https://arxiv.org/abs/2204.06507, with the first neighbour.

    Attributes:
        neighbours: bottlenecks of length 1, (pictures, features).
    """

    name: ClassVar[str] = "nearest_neighbour"
    neighbours: Array

    def score(self, features: Array, probabilities: Array) -> Array:
        """See `Score`."""
        cosines = normalised(features) @ self.neighbours.T
        # Not below zero, where rounding puts a picture of the training itself.
        return np.asarray(np.maximum(1.0 - cosines.max(axis=1), 0.0))

    def arrays(self) -> Mapping[str, Array]:
        """See `Score`."""
        return {"neighbours": self.neighbours}

    def features(self) -> int | None:
        """See `Score`."""
        _, features = self.neighbours.shape
        return int(features)


METHODS: dict[str, type[Score]] = {
    method.name: method
    for method in (
        MaximumProbability,
        Energy,
        Mahalanobis,
        NormalisedMahalanobis,
        NearestNeighbour,
    )
}


def pooled(bottlenecks: Array) -> Array:
    """Return one vector for each picture, (n, features): the mean over the locations of a map."""
    if bottlenecks.ndim <= 2:
        return bottlenecks
    return np.asarray(bottlenecks.mean(axis=tuple(range(1, bottlenecks.ndim - 1))))


def normalised(features: Array) -> Array:
    """Return the rows divided by their length; a row of zeros stays."""
    return np.asarray(features / _lengths(features))


def _lengths(rows: Array) -> Array:
    """Return the length of each row, (n, 1); of a row of zeros a tiny number."""
    squares = _squares(rows)
    if squares.min() > _SMALL and squares.max() < _LARGE:
        return np.asarray(np.sqrt(squares)[:, None])
    # By the largest first: the squares of bottlenecks of 1e-20 are zero in float32.
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), _TINY)
    return np.asarray(largest * np.maximum(np.sqrt(_squares(rows / largest))[:, None], 1.0))


def _squares(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _check_shapes(*expected: tuple[Array, tuple[int, ...]]) -> None:
    for array, shape in expected:
        if array.shape != shape:
            raise ValueError(f"the shape {array.shape} should be {shape}")
