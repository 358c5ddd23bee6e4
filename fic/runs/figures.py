"""Figures that a report adds to those of a run: how sure one can be of them, and its confidence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .run import RunResults, ValidationRow

_BINS = 10
_Z = 1.959964  # of the normal distribution, for 95 %


def report_figures(results: RunResults) -> dict[str, Any]:
    """Return the figures that a report adds to those of the run, ready for JSON."""
    val = results.metrics["val"]
    right = round((val["accuracy"] or 0) * val["images"])
    bins = confidence_bins(results.validation)
    return {
        "accuracy": val["accuracy"],
        "interval": list(wilson(right, val["images"])),
        "images": val["images"],
        "calibration_error": calibration_error(bins),
    }


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson's), 0 to 1 where nothing was counted.

    Edwin Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927). It is never empty or beyond 0 and 1.
    """
    if not count:
        return 0.0, 1.0
    share, z2 = right / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At 0 and 1 rounding would leave the share itself out.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def confidence_bins(validation: Sequence[ValidationRow]) -> list[dict[str, float]]:
    """Return pictures, mean confidence and share of right answers of each tenth of confidence."""
    confidence = np.array([row.probability for row in validation], float)
    right = np.array([row.predicted == row.label for row in validation], bool)
    numbers = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    found = []
    for number in range(_BINS):
        own = numbers == number
        count, hits = int(own.sum()), int(right[own].sum())
        found.append(
            {
                "low": number / _BINS,
                "high": (number + 1) / _BINS,
                "images": count,
                "right": hits,
                "confidence": float(confidence[own].mean()) if count else 0.0,
            }
        )
    return found


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Return the mean distance of confidence and right answers, each bin by its pictures."""
    total = sum(each["images"] for each in bins)
    apart = (abs(each["confidence"] * each["images"] - each["right"]) for each in bins)
    return sum(apart) / total if total else 0.0
