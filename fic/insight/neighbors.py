"""Nearest neighbors among bottlenecks, without a matrix of all pairs in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .logistic import Floats, Ints

MOST_DIRECTIONS = 256
"""Principal directions that are kept: 89 % of the variance of the flowers, and all neighbors."""

_SPARE_DIRECTIONS = 16
_PASSES = 3
_BLOCK = 2048  # rows compared at once with as many others: 16 MB of similarities


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
    """Find the nearest neighbors of each row among all rows; of equal ones the first.

    Args:
        rows: of length 1, (n, width).
        count: neighbors of each.
        progress: called with the number of rows that were just compared with all others.
    """
    total = len(rows)
    found = Neighbors(
        np.full((total, count), -1, np.int64), np.full((total, count), -np.inf, np.float32)
    )
    blocks = [slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK)]
    for number, block in enumerate(blocks):
        for other in blocks[number:]:
            # Each pair of rows is compared once, for both.
            cosines = rows[block] @ rows[other].T
            if other is block:
                np.fill_diagonal(cosines, -np.inf)
            else:
                least = _least(found.similarities[other], cosines.T)
                own, others = _where(cosines > least)
                _improve(found, other, others, own + block.start, cosines[own, others])
            least = _least(found.similarities[block], cosines)
            own, others = _where(cosines > least[:, None])
            _improve(found, block, own, others + other.start, cosines[own, others])
        if progress is not None:
            progress(block.stop - block.start)
    return found


def _least(similarities: Floats, cosines: Floats) -> Floats:
    """Return what a cosine has to exceed to be among the best of its row, (n,).

    Args:
        similarities: the best that were found so far, (n, count).
        cosines: with rows that were not looked at before, (n, m).
    """
    least, count = similarities[:, -1], similarities.shape[1]
    is_first = np.isneginf(least)
    if cosines.shape[1] <= count or not is_first.any():
        return least
    # Nearly every cosine is better than nothing.
    best = np.partition(np.ascontiguousarray(cosines), -count, axis=1)[:, -count]
    return np.where(is_first, np.nextafter(best, np.float32(-np.inf)), least)


def _where(mask: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    # A quarter of the time of np.nonzero, which counts in two dimensions.
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


def _improve(found: Neighbors, block: slice, rows: Ints, columns: Ints, values: Floats) -> None:
    """Take cosines (n,) into the best of their rows.

    Args:
        rows: of the block, (n,).
        columns: numbers of the other rows, (n,); in ascending order for each row.
    """
    if not len(rows):
        return
    indices, similarities = found.indices[block], found.similarities[block]
    count = indices.shape[1]
    order = np.lexsort((-values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    kept = rank < count
    places = np.cumsum(np.diff(rows, prepend=-1) > 0)[kept] - 1
    changed = rows[starts]
    fresh = np.full((len(changed), count), -np.inf, np.float32)
    numbers = np.full((len(changed), count), -1, np.int64)
    fresh[places, rank[kept]], numbers[places, rank[kept]] = values[kept], columns[kept]
    both = np.concatenate([similarities[changed], fresh], axis=1)
    which = np.concatenate([indices[changed], numbers], axis=1)
    best = np.argsort(-both, axis=1, kind="stable")[:, :count]
    similarities[changed] = np.take_along_axis(both, best, axis=1)
    indices[changed] = np.take_along_axis(which, best, axis=1)
