"""Statistics of the training from which a head is computed anew when a class is taught.

The head is class-balanced ridge regression in closed form: with the mean μ of the class means, the
shared covariance within classes S and the one between them B, its kernel is (S + B + λ)⁻¹ times the
class means less μ. Of S the largest directions are kept and one variance for all others, so that
Woodbury's identity needs no matrix of (features, features).

The mean of a few pictures is off by what these few have in common. So each class mean is drawn
towards the centre as far as its number of pictures leaves it uncertain: the posterior mean where
class means are normally distributed as well (empirical Bayes; Efron & Morris 1973,
https://doi.org/10.1080/01621459.1973.10481350).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import TEACHING_FILE, Bundle
from ..bundle.arrays import read_array_file
from ..errors import BundleError
from .linear import LinearHead

_RIDGE = 3.0  # times the mean variance of a feature (docs/why/ood-and-teaching.md)
_LEAST_BETWEEN = 1e-3  # of the variance within classes: means that differ by nothing but noise
_DRAWS = 2_000
_SCORES_AT_ONCE = 1_000_000
_STORED = {"extra_variance": "caution"}  # its name in `teaching.npz`
_SEED = 20181124
_SCALES = np.geomspace(1, 200, 60)


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """Sufficient statistics of the pooled bottlenecks of all classes.

    Attributes:
        means: float32 (classes, features).
        counts: pictures of each class, int64 (classes,).
        directions: orthonormal directions of the shared covariance, (features, kept).
        variances: along them, in units of `variance`, (kept,).
        rest: along all others, in the same units, shape ().
        variance: mean variance of a feature within a class, shape ().
        extra_variance: variance of a feature that pictures have beside that of the training,
            in the same units, shape (). It makes answers less sure; the export finds it by
            cross-validation.
    """

    means: NDArray[np.float32]
    counts: NDArray[np.int64]
    directions: NDArray[np.floating[Any]]
    variances: NDArray[np.float32]
    rest: NDArray[np.float32]
    variance: NDArray[np.float64]
    extra_variance: NDArray[np.float32]

    def updated(self, index: int, features: NDArray[np.float32]) -> "ClassStatistics":
        """Return the statistics with more pictures of a class, (n, features).

        An `index` after the last class is that of a new one.
        """
        means, counts = self.means, self.counts
        if index == len(means):
            means = np.concatenate([means, np.zeros_like(means[:1])])
            counts = np.append(counts, 0)
        means, counts = means.copy(), counts.copy()
        total = counts[index] + len(features)
        # As a step from the mean that is there, which loses nothing in float32.
        step = (features.astype(np.float64) - means[index]).sum(axis=0) / total
        means[index] += step.astype(np.float32)
        counts[index] = total
        return replace(self, means=means, counts=counts)

    def without(self, index: int) -> "ClassStatistics":
        """Return the statistics without a class."""
        return replace(
            self,
            means=np.delete(self.means, index, axis=0),
            counts=np.delete(self.counts, index),
        )

    def head(self) -> LinearHead:
        """Return the head: ridge regression, with the scale that makes its scores probabilities."""
        classes = len(self.means)
        unit = float(np.sqrt(self.variance)) or 1.0
        means = self._likely_means(self.means.astype(np.float64) / unit)
        centre = means.mean(axis=0)
        offsets = means - centre
        spread = (offsets**2).mean()  # per feature
        diagonal = float(self.rest) + _RIDGE * (1.0 + spread)
        within = self._within
        columns = np.concatenate([within, offsets.T / np.sqrt(classes)], axis=1)
        target = offsets.T / classes
        small = diagonal * np.eye(columns.shape[1]) + columns.T @ columns
        kernel = (target - columns @ np.linalg.solve(small, columns.T @ target)) / diagonal
        along = within.T @ kernel
        covariance = (
            float(self.rest) + float(self.extra_variance)
        ) * kernel.T @ kernel + along.T @ along
        scale = _best_scale(offsets @ kernel + 1 / classes, covariance, self.counts)
        bias = scale * (1 / classes - centre @ kernel)
        kernel = kernel * (scale / unit)
        kernel -= kernel.mean(axis=1, keepdims=True)
        return LinearHead(kernel.astype(np.float32), (bias - bias.mean()).astype(np.float32))

    def _likely_means(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draw class means, (classes, features) in units of the deviation, towards their centre."""
        noise = 1 / self.counts  # variance of a feature of each mean
        weights = 1 / (1 + noise)
        weights /= weights.sum()
        centre = weights @ means
        offsets = means - centre
        # What the means differ by beyond their noise, per feature.
        between = weights @ (offsets**2).mean(axis=1) - weights @ noise
        between = max(float(between) * len(means) / (len(means) - 1), _LEAST_BETWEEN)
        directions = self.directions.astype(np.float64)
        along = offsets @ directions
        kept = between / (between + noise[:, None] * self.variances)
        kept_of_rest = between / (between + noise[:, None] * float(self.rest))
        drawn = kept_of_rest * offsets + ((kept - kept_of_rest) * along) @ directions.T
        return np.asarray(centre + drawn, np.float64)

    @cached_property
    def _within(self) -> NDArray[np.float64]:
        """Columns whose products are the covariance within classes less the rest."""
        above = np.sqrt(np.maximum(self.variances - self.rest, 0.0))
        return np.asarray(self.directions.astype(np.float64) * above, np.float64)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return what `teaching.npz` holds."""
        return {
            "means": self.means,
            "counts": self.counts,
            "directions": self.directions.astype(np.float16),
            "variances": self.variances,
            "rest": self.rest,
            "variance": self.variance,
            _STORED["extra_variance"]: self.extra_variance,
        }


def read_teaching(bundle: Bundle) -> ClassStatistics | None:
    """Read the statistics of a bundle; None if it was exported without `--teachable`.

    Raises:
        BundleError: the file is damaged or does not fit the head.
    """
    if TEACHING_FILE not in bundle.manifest.own_files:
        return None
    path = bundle.files.path(TEACHING_FILE)
    features, labels = bundle.manifest.base.output.shape[-1] or 0, len(bundle.manifest.labels)
    # Means and counts of the labels, and at most as many directions as there are features.
    most = (4 * features + 8) * labels + (2 * features + 4) * features
    try:
        arrays = read_array_file(bundle.files, TEACHING_FILE, most)
        teaching = ClassStatistics(
            **{
                name: arrays[_STORED.get(name, name)]
                for name in ClassStatistics.__dataclass_fields__
            }
        )
        kept = len(teaching.variances) if teaching.variances.ndim else 0
        for name, kind, shape in (
            ("means", "float32", (labels, features)),
            ("counts", "int64", (labels,)),
            ("directions", "float16", (features, kept)),
            ("variances", "float32", (kept,)),
            ("rest", "float32", ()),
            ("variance", "float64", ()),
            (_STORED["extra_variance"], "float32", ()),
        ):
            array = arrays[name]
            if array.dtype != kind or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype} {array.shape} instead of {shape}")
        scalars = (teaching.rest, teaching.variance, teaching.extra_variance)
        if teaching.counts.min() < 1 or any(float(scalar) < 0 for scalar in scalars):
            raise ValueError("it holds counts or variances that cannot be")
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    return teaching


def _best_scale(
    scores: NDArray[np.float64], covariance: NDArray[np.float64], counts: NDArray[np.int64]
) -> float:
    """Return the factor for which drawn pictures have the best mean log-likelihood.

    They are drawn around each class's score from a normal distribution with the covariance within
    classes; a mean of few pictures is itself off by that covariance over their number.

    Args:
        scores: of the class means, (classes, classes).
        covariance: of the scores within a class, (classes, classes).
        counts: pictures of each class, (classes,).
    """
    classes = len(scores)
    values, turn = np.linalg.eigh(covariance)
    root = turn * np.sqrt(np.maximum(values, 0.0))
    draws = max(2, _DRAWS // classes**2 if classes > 100 else _DRAWS // classes)
    noise = np.random.default_rng(_SEED).standard_normal((draws, classes)) @ root.T
    targets = np.arange(classes)
    likelihoods = np.zeros(len(_SCALES))
    at_once = max(1, _SCORES_AT_ONCE // classes**2)
    for start in range(0, draws, at_once):
        some = noise[start : start + at_once, None, :]
        drawn = scores + some * np.sqrt(1 + 1 / counts)[:, None]  # (draws, classes, classes)
        drawn -= drawn.max(axis=2, keepdims=True)
        own = drawn[:, targets, targets].sum()
        for index, scale in enumerate(_SCALES):
            likelihoods[index] += scale * own - np.log(np.exp(scale * drawn).sum(axis=2)).sum()
    return float(_SCALES[likelihoods.argmax()])
