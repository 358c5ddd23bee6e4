"""Fit the statistics from which a device computes its head anew when a class is taught."""

import numpy as np

from fic_runtime.ood_scores import Array
from fic_runtime.teaching import Teaching

from .ood_fits import largest_directions

_DIRECTIONS = 64  # 128 are no better on flowers (docs/decisions.md)


def fit_teaching(
    features: Array, truth: Array, classes: int, *, kept: int = _DIRECTIONS
) -> Teaching:
    """Fit class means, counts and the covariance that the classes share.

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
    )
