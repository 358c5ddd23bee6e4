from pathlib import Path

import pytest

from fic.runs.figures import confidence_bins, wilson
from fic.runs.run import ValidationRow


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(90, 100, 0.8256, 0.9448), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilsons(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_confidence_is_counted_in_tenths() -> None:
    given = [("cat", 1.0), ("cat", 0.95), ("dog", 0.91), ("dog", 0.5)]
    rows = [
        ValidationRow(path=Path("a"), label="cat", predicted=predicted, probability=probability)
        for predicted, probability in given
    ]
    bins = confidence_bins(rows)
    assert (bins[9]["images"], bins[9]["right"]) == (3, 2)
    assert bins[9]["confidence"] == pytest.approx(0.9533, abs=1e-4)
    assert (bins[5]["images"], bins[5]["right"]) == (1, 0)
    assert sum(each["images"] for each in bins) == 4
