"""Fit the statistics from which a device computes its head anew when a class is taught."""

from dataclasses import replace

import numpy as np

from fic_runtime.heads.ood_scores import Array
from fic_runtime.heads.statistics import Teaching

from .ood_scores import largest_directions
from .temperature import cross_entropies

_DIRECTIONS = 64  # 128 are no better on flowers (docs/decisions.md)
_FOLDS = 5
_CAUTIONS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 20.0, 32.0)
_USUAL_CAUTION = 6.0  # where a class has too few pictures to try: between those of flowers


def fit_teaching(
    features: Array, truth: Array, classes: int, *, kept: int = _DIRECTIONS
) -> Teaching:
    """Fit class means, counts, the covariance that the classes share, and the caution.

    The caution is the one for which heads of four fifths of the pictures have the least cross
    entropy on the others, each fifth in turn.

    Args:
        features: pooled bottlenecks of the training, float32 (pictures, features).
        truth: the index of each one's class, (pictures,).
        classes: how many there are.

    Raises:
        ValueError: a class has no picture.
    """
    counts = np.bincount(truth, minlength=classes)
    if not counts.all():
        raise ValueError(f"class {int(counts.argmin())} has no picture")
    teaching = _statistics(features, truth, counts, kept)
    if counts.min() < _FOLDS:
        return teaching
    caution = _best_caution(features, truth, counts, kept)
    return replace(teaching, caution=np.asarray(caution, np.float32))


def _best_caution(features: Array, truth: Array, counts: Array, kept: int) -> float:
    # Every class has its share of each fold: the pictures of a class take turns.
    turn = np.empty(len(truth), np.int64)
    for each, count in enumerate(counts):
        turn[truth == each] = np.arange(count) % _FOLDS
    folds = []
    for fold in range(_FOLDS):
        own, left_out = truth[turn != fold], turn == fold
        counted = np.bincount(own, minlength=len(counts))
        folds.append((_statistics(features[turn != fold], own, counted, kept), left_out))

    def loss(caution: float) -> float:
        total = 0.0
        for teaching, left_out in folds:
            weights = replace(teaching, caution=np.asarray(caution, np.float32)).head()
            logits = features[left_out] @ weights.kernel + weights.bias
            total += float(cross_entropies(logits, truth[left_out]).sum())
        return total

    return min(_CAUTIONS, key=loss)


def _statistics(features: Array, truth: Array, counts: Array, kept: int) -> Teaching:
    classes = len(counts)
    means = np.stack([features[truth == each].mean(axis=0) for each in range(classes)])
    within = features - means[truth]
    freedom = max(1, len(features) - classes)
    variance = float((within.astype(np.float64) ** 2).sum()) / freedom / features.shape[1] or 1.0
    within = (within / np.float64(np.sqrt(variance))).astype(np.float32)
    # Half of what there is at most, so that there is a rest to take the last variance from.
    kept = max(1, min(kept, freedom // 2, features.shape[1] // 2))
    directions, squares = largest_directions(within, kept)
    variances = squares / freedom
    rest = max(features.shape[1] - float(variances.sum()), 0.0) / max(1, features.shape[1] - kept)
    return Teaching(
        means=means.astype(np.float32),
        counts=counts.astype(np.int64),
        directions=directions.astype(np.float16),
        variances=variances.astype(np.float32),
        rest=np.asarray(rest, np.float32),
        variance=np.asarray(variance, np.float64),
        caution=np.asarray(_USUAL_CAUTION, np.float32),
    )
