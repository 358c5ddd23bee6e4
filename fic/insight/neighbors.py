"""Nearest neighbors among bottlenecks, without a matrix of all pairs in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .logistic import Floats, Ints

MOST_DIRECTIONS = 256
"""Principal directions that are kept: 89 % of the variance of the flowers, and all neighbors."""

_SPARE_DIRECTIONS = 16
_PASSES = 3
_BLOCK = 1024  # rows compared at once with `_CHUNK` others: 16 MB of similarities
_CHUNK = 4096


def unit_rows(rows: Floats, *, seed: int = 0) -> Floats:
    """Return bottlenecks without their mean, on their principal directions, scaled to length 1.

    The directions are found by subspace iteration (Halko, Martinsson and Tropp, "Finding structure
    with randomness", SIAM Review 53, 2011), which needs no square matrix of the rows.

    Args:
        rows: float32 (n, width); not changed.
        seed: of the subspace that the iteration starts from.

    Returns:
        float32 (n, at most `MOST_DIRECTIONS`); zero where a row is the mean.
    """
    count, width = rows.shape
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    directions = min(MOST_DIRECTIONS, width)
    if width <= MOST_DIRECTIONS or count <= 1:
        return _scaled(rows - mean)
    random = np.random.default_rng(seed)
    wanted = min(width, directions + _SPARE_DIRECTIONS)
    basis = random.standard_normal((width, wanted)).astype(np.float32)
    for _ in range(_PASSES):
        # (rows - mean)' (rows - mean) basis, without a second copy of the rows.
        projected = rows @ basis - mean @ basis
        basis, _ = np.linalg.qr(rows.T @ projected - np.outer(mean, projected.sum(axis=0)))
    projected = rows @ basis - mean @ basis
    _, turn = np.linalg.eigh(projected.T @ projected)
    return _scaled(projected @ turn[:, ::-1][:, :directions])


def _scaled(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


@dataclass(frozen=True)
class Neighbors:
    """For each row the others that are most similar to it, the nearest first.

    Attributes:
        indices: (n, k); -1 where there are fewer others.
        similarities: cosines, (n, k); -inf likewise.
    """

    indices: Ints
    similarities: Floats


def find_neighbors(
    rows: Floats, count: int, *, progress: Callable[[int], object] | None = None
) -> Neighbors:
    """Find the nearest neighbors of each row among all rows.

    Args:
        rows: of length 1, (n, width).
        count: neighbors of each.
        progress: called with the number of rows that were just compared with all others.
    """
    total = len(rows)
    indices = np.full((total, count), -1, np.int64)
    similarities = np.full((total, count), -np.inf, np.float32)
    for start in range(0, total, _BLOCK):
        block = slice(start, min(start + _BLOCK, total))
        best: tuple[Ints, Floats] = indices[block], similarities[block]
        for first in range(0, total, _CHUNK):
            chunk = rows[first : first + _CHUNK]
            cosines = rows[block] @ chunk.T
            own = np.arange(block.start, block.stop) - first
            inside = (own >= 0) & (own < len(chunk))
            cosines[np.flatnonzero(inside), own[inside]] = -np.inf
            best = _better(*best, cosines, first)
        indices[block], similarities[block] = best
        if progress is not None:
            progress(block.stop - block.start)
    return Neighbors(indices, similarities)


def _better(
    indices: Ints, similarities: Floats, cosines: Floats, first: int
) -> tuple[Ints, Floats]:
    """Return the best of those found so far and of a chunk whose first row has number `first`."""
    count = indices.shape[1]
    rows, columns = _candidates(cosines, similarities[:, -1], count)
    if not len(rows):
        return indices, similarities
    values = cosines[rows, columns]
    order = np.lexsort((-values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    kept = rank < count
    rows, columns, values, rank = rows[kept], columns[kept], values[kept], rank[kept]
    changed = np.unique(rows)
    fresh = np.full((len(indices), count), -np.inf, np.float32)
    places = np.full((len(indices), count), -1, np.int64)
    fresh[rows, rank], places[rows, rank] = values, columns + first
    both = np.concatenate([similarities[changed], fresh[changed]], axis=1)
    which = np.concatenate([indices[changed], places[changed]], axis=1)
    best = np.argsort(-both, axis=1, kind="stable")[:, :count]
    similarities[changed] = np.take_along_axis(both, best, axis=1)
    indices[changed] = np.take_along_axis(which, best, axis=1)
    return indices, similarities


def _candidates(cosines: Floats, least: Floats, count: int) -> tuple[Ints, Ints]:
    """Return row and column of the cosines that may be among the best `count` of their row."""
    if np.isneginf(least).any() and cosines.shape[1] > count:
        # Of the first chunk nearly every cosine is better than nothing.
        columns = np.argpartition(-cosines, count - 1, axis=1)[:, :count].ravel()
        rows = np.repeat(np.arange(len(cosines)), count)
        found = np.isfinite(cosines[rows, columns])
        return rows[found], columns[found]
    # After that nearly nothing beats what was found: a comparison is all that it costs.
    rows, columns = np.nonzero(cosines > least[:, None])
    return rows, columns
