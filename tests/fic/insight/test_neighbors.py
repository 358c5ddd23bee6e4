import numpy as np
import pytest

import fic.insight.neighbors as neighbors
from fic.insight.neighbors import MOST_DIRECTIONS, find_neighbors, unit_rows


def some_rows(count: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize(("count", "wanted"), [(50, 3), (2, 3), (1, 2)])
def test_blocks_give_the_neighbors_of_the_whole_matrix(
    count: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK", 7)
    rows = unit_rows(some_rows(count, 16))
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, :wanted]
    counted: list[int] = []
    found = find_neighbors(rows, wanted, progress=counted.append)
    others = min(wanted, count - 1)
    np.testing.assert_array_equal(found.indices[:, :others], order[:, :others])
    assert (found.indices[:, others:] == -1).all()
    assert sum(counted) == count


def test_wide_rows_keep_their_cosines_on_fewer_directions() -> None:
    few = some_rows(300, 20) @ some_rows(20, 4 * MOST_DIRECTIONS)
    few += 5  # a mean, which does not count
    centered = few - few.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    reduced = unit_rows(few)
    assert reduced.shape == (300, MOST_DIRECTIONS)
    np.testing.assert_allclose(reduced @ reduced.T, centered @ centered.T, atol=1e-3)


def test_equal_rows_are_no_division_by_zero() -> None:
    assert not unit_rows(np.ones((3, 4), np.float32)).any()
