"""Fit the statistics from which a device computes its head anew when a class is taught."""

from dataclasses import replace

import numpy as np

from fic_runtime.heads.ood_scores import Array
from fic_runtime.heads.statistics import ClassStatistics

from .ood_scores import class_means, largest_directions
from .softmax import cross_entropies

_DIRECTIONS = 64  # 128 are not better on flowers (docs/why/ood-and-teaching.md)
_FOLDS = 5
_EXTRA_VARIANCES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 20.0, 32.0)
# Of the variance between classes, where pictures show none within them.
_SHARE_WITHIN = 0.25
_USUAL_EXTRA_VARIANCE = 6.0  # where a class has too few pictures to try: between those of flowers


def fit_teaching(
    features: Array, targets: Array, classes: int, *, kept: int = _DIRECTIONS
) -> ClassStatistics:
    """Fit class means, counts, the covariance that the classes share, and the extra variance.

    The extra variance is the one for which heads of four fifths of the pictures have the least
    cross entropy on the others, each fifth in turn.

    Args:
        features: pooled bottlenecks of the training, float32 (pictures, features).
        targets: the index of each one's class, (pictures,).
        classes: how many there are.

    Raises:
        ValueError: a class has no picture.
    """
    counts = np.bincount(targets, minlength=classes)
    if not counts.all():
        raise ValueError(f"class {int(counts.argmin())} has no picture")
    teaching = _statistics(features, targets, counts, kept)
    if counts.min() < _FOLDS:
        return teaching
    extra_variance = _best_extra_variance(features, targets, counts, kept)
    return replace(teaching, extra_variance=np.asarray(extra_variance, np.float32))


def _best_extra_variance(features: Array, targets: Array, counts: Array, kept: int) -> float:
    # Every class has its share of each fold: the pictures of a class take turns.
    turn = np.empty(len(targets), np.int64)
    turn[np.argsort(targets, kind="stable")] = np.concatenate(
        [np.arange(count) % _FOLDS for count in counts]
    )
    folds = []
    for fold in range(_FOLDS):
        own, left_out = targets[turn != fold], turn == fold
        counted = np.bincount(own, minlength=len(counts))
        folds.append((_statistics(features[turn != fold], own, counted, kept), left_out))

    def loss(extra_variance: float) -> float:
        total = 0.0
        for teaching, left_out in folds:
            weights = replace(
                teaching, extra_variance=np.asarray(extra_variance, np.float32)
            ).head()
            logits = features[left_out] @ weights.kernel + weights.bias
            total += float(cross_entropies(logits, targets[left_out]).sum())
        return total

    return min(_EXTRA_VARIANCES, key=loss)


def _statistics(features: Array, targets: Array, counts: Array, kept: int) -> ClassStatistics:
    classes = len(counts)
    means = class_means(features, targets, classes)
    within = features - means[targets]
    if not within.any():
        return _without_spread(means, counts)
    freedom = max(1, len(features) - classes)
    variance = float((within.astype(np.float64) ** 2).sum()) / freedom / features.shape[1]
    within = (within / np.float64(np.sqrt(variance))).astype(np.float32)
    # Half of what there is at most, so that there is a rest to take the last variance from.
    kept = max(1, min(kept, freedom // 2, features.shape[1] // 2))
    directions, squares = largest_directions(within, kept)
    variances = squares / freedom
    rest = max(features.shape[1] - float(variances.sum()), 0.0) / max(1, features.shape[1] - kept)
    return ClassStatistics(
        means=means.astype(np.float32),
        counts=counts.astype(np.int64),
        directions=directions.astype(np.float16),
        variances=variances.astype(np.float32),
        rest=np.asarray(rest, np.float32),
        variance=np.asarray(variance, np.float64),
        extra_variance=np.asarray(_USUAL_EXTRA_VARIANCE, np.float32),
    )


def _without_spread(means: Array, counts: Array) -> ClassStatistics:
    """Return the statistics where no class shows how its pictures differ: one picture, or copies.

    All directions then count the same, and the variance within classes is taken for a share of that
    between them, so that classes can be told apart and answers are not too sure.
    """
    features = means.shape[1]
    between = float(means.var(axis=0, dtype=np.float64).mean())
    return ClassStatistics(
        means=means.astype(np.float32),
        counts=counts.astype(np.int64),
        directions=np.eye(features, 1, dtype=np.float16),
        variances=np.ones(1, np.float32),
        rest=np.asarray(1.0, np.float32),
        variance=np.asarray(_SHARE_WITHIN * between or 1.0, np.float64),
        extra_variance=np.asarray(_USUAL_EXTRA_VARIANCE, np.float32),
    )
