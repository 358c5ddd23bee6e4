"""Whether a picture is like those of the training: a bundle's score with its threshold."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..bundle.arrays import read_array_file
from ..bundle.files import BundleFiles
from ..bundle.manifest import Manifest
from ..errors import BundleError
from .ood_scores import METHODS, Array, Score, pooled

SCORE_FILE = "known.npz"
_MOST_NEIGHBORS = 1 << 14  # export keeps 500


class OutOfDistribution(NamedTuple):
    """A score and its threshold; a picture past it is an outlier."""

    method: Score
    threshold: float

    def score(self, bottlenecks: Array, probabilities: Array) -> Array:
        """Return the score of each picture, float64 (n,); higher for outliers.

        Args:
            bottlenecks: float32, (n, features) or (n, height, width, features).
            probabilities: the head's answers, (n, labels).
        """
        scores = self.method.score(pooled(bottlenecks), probabilities)
        return np.asarray(scores, np.float64)

    def is_known(self, score: float) -> bool:
        """Tell whether a picture of this score is like those of the training."""
        # A score that is not a number is not a sign of a known picture.
        return score <= self.threshold


def read_out_of_distribution(files: BundleFiles, manifest: Manifest) -> OutOfDistribution | None:
    """Return the score of a bundle, or None if it has none.

    Raises:
        BundleError: the method is newer than this runtime, or its numbers cannot be used.
    """
    known = manifest.known
    if known is None:
        return None
    where = files.path(SCORE_FILE).parent
    method = METHODS.get(known.method)
    if method is None:
        raise BundleError(
            f"{where}: tells known pictures by {known.method!r}, which this runtime does not know; "
            "upgrade fic-runtime"
        )
    if known.file is None:
        return OutOfDistribution(_made(method, {}, where, manifest), known.threshold)
    path = files.path(known.file)
    if known.file not in manifest.files:
        raise BundleError(f"{path}: has no checksum in the manifest; export the bundle again")
    try:
        arrays = read_array_file(files, known.file, _most_bytes(manifest))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    return OutOfDistribution(_made(method, arrays, path, manifest), known.threshold)


def _most_bytes(manifest: Manifest) -> int:
    """Return how many bytes the arrays of any method have at most: rows of features, each."""
    features, labels = manifest.base.output.shape[-1] or 0, len(manifest.labels)
    # Means or weights of the labels, at most as many directions as features, and neighbors.
    rows = 2 * labels + features + _MOST_NEIGHBORS + 4
    return 4 * (rows * features + 2 * labels + features)


def _made(method: type[Score], arrays: dict[str, Array], path: Path, manifest: Manifest) -> Score:
    try:
        _check_numbers(arrays)
        made = method(**{name: array.astype(np.float32) for name, array in arrays.items()})
        features = made.features()
    # TypeError: arrays that are missing, or are not of this method.
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"{path}: does not hold the numbers of {method.name} ({error}); export the bundle again"
        ) from error
    expected = manifest.base.output.shape[-1]
    if features not in (None, expected):
        raise BundleError(
            f"{path}: is for {features} features where the base gives {expected}; export the "
            "bundle again"
        )
    return made


def _check_numbers(arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {array.dtype}")
        if not array.size or not np.isfinite(array).all():
            raise ValueError(f"{name} is empty or holds values that are not numbers")
