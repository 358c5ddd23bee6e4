"""Pictures that are like no other of the data set, so that they may belong to no class.

The distance to the nearest neighbors tells them: Yiyou Sun, Yifei Ming, Xiaojin Zhu and Yixuan Li,
"Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .logistic import Floats
from .neighbors import Neighbors

_NEIGHBORS = 5
# In robust standard deviations above the median picture. Among the flowers, 21 of 30 pictures of
# other things are beyond it, and 8 of 1000 flowers.
_UNUSUAL = 3.0
_PER_DEVIATION = 1.4826  # median absolute deviation to standard deviation, of a normal distribution
_BLOCK = 4096  # rows whose neighbors are in memory at once


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A picture far from all others.

    Attributes:
        path: the file.
        label: its label.
        score: distance to its neighbors in robust standard deviations above the median picture.
    """

    path: Path
    label: str
    score: float


def outlier_scores(rows: Floats, neighbors: Neighbors) -> Floats:
    """Return how far each row is from its neighbors, in robust deviations above the median, (n,).

    Cosines of the rows as they are tell strangers better than those of centered rows, which find
    the neighbors. Zero for all where there are too few rows to tell.

    Args:
        rows: the bottlenecks, (n, width).
        neighbors: of each row.
    """
    if len(rows) <= 2 * _NEIGHBORS:
        return np.zeros(len(rows))
    lengths = np.linalg.norm(rows, axis=1) + 1e-12
    distances = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = neighbors.indices[block, :_NEIGHBORS]
        products = np.einsum("nd,nkd->nk", rows[block], rows[near])
        distances[block] = 1 - (products / (lengths[block, None] * lengths[near])).mean(axis=1)
    median = np.median(distances)
    deviation = _PER_DEVIATION * np.median(np.abs(distances - median))
    if deviation < 1e-6:
        return np.zeros(len(rows))
    return np.asarray((distances - median) / deviation)


def is_unusual(scores: Floats) -> Floats:
    """Return which rows are so far from all others that a person should look."""
    return np.asarray(scores >= _UNUSUAL)
