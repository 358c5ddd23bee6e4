import numpy as np

from fic.insight.neighbors import find_neighbors, unit_rows
from fic.insight.outliers import is_unusual, outlier_scores


def scores_of(rows: np.ndarray) -> np.ndarray:
    return outlier_scores(rows, find_neighbors(unit_rows(rows), 6))


def test_a_row_that_points_elsewhere_is_unusual() -> None:
    random = np.random.default_rng(0)
    rows = (1 + 0.2 * random.standard_normal((100, 16))).astype(np.float32)
    rows[42] = -rows[42]
    scores = scores_of(rows)
    assert scores.argmax() == 42
    assert is_unusual(scores).sum() < 10


def test_few_rows_and_equal_rows_tell_nothing() -> None:
    assert not scores_of(np.eye(4, dtype=np.float32)).any()
    assert not scores_of(np.ones((50, 4), np.float32)).any()
