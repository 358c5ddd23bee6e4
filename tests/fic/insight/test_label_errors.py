import numpy as np
import pytest

from fic.errors import DataError
from fic.insight.label_errors import assign_folds, check_folds, confused_classes, judge_labels
from fic.insight.neighbors import unit_rows
from fic.progress import Silence


def clusters(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around three centers, and the center of each."""
    random = np.random.default_rng(0)
    targets = np.arange(count) % 3
    rows = random.standard_normal((count, 16)) + 9 * np.eye(3, 16)[targets]
    return unit_rows(rows.astype(np.float32)), targets


def test_flipped_labels_are_the_most_suspect() -> None:
    rows, truth = clusters()
    flipped = np.array([4, 19, 33])
    targets = truth.copy()
    targets[flipped] = (truth[flipped] + 1) % 3
    fold = assign_folds(targets, np.arange(60), 5)
    errors = judge_labels(rows, targets, fold, 3, Silence())
    assert set(np.argsort(-errors.scores)[:3]) == set(flipped)
    marked = set(np.flatnonzero(errors.likely_wrong))
    assert marked and marked <= set(flipped)
    np.testing.assert_array_equal(errors.suggested[flipped], truth[flipped])
    assert ((errors.scores >= 0) & (errors.scores <= 1)).all()


def test_a_group_of_duplicates_is_in_one_fold_and_every_fold_has_every_class() -> None:
    targets = np.repeat([0, 1], 20)
    groups = np.arange(40)
    groups[[3, 7, 12]] = 3
    fold = assign_folds(targets, groups, 5)
    assert len(set(fold[[3, 7, 12]])) == 1
    for target in (0, 1):
        assert set(fold[targets == target]) == set(range(5))


def test_a_class_of_copies_is_spread_singly() -> None:
    """In one fold, nobody would have seen the class."""
    fold = assign_folds(np.repeat([0, 1], 5), np.array([0] * 5 + [5, 6, 7, 8, 9]), 5)
    assert set(fold[:5]) == set(range(5))


def test_classes_that_cannot_be_told_apart_may_be_one() -> None:
    rows, truth = clusters(90)
    targets = truth.copy()
    both = np.flatnonzero(truth == 1)
    targets[both[::2]] = 2  # half of one cluster has the other's name
    errors = judge_labels(rows, targets, assign_folds(targets, np.arange(90), 5), 3, Silence())
    first = confused_classes(errors, targets, ["a", "b", "c"])[0]
    assert first.classes == ("b", "c")
    assert first.count >= 10


@pytest.mark.parametrize(
    ("few", "says"),
    [
        (3, "class 'b': has 3 readable pictures, fewer than the 5 folds; add pictures or give "),
        (1, "class 'b': has 1 readable picture, fewer than the 5 folds; add pictures$"),
    ],
)
def test_a_class_with_fewer_pictures_than_folds_is_refused(few: int, says: str) -> None:
    check_folds([5, 9], ["a", "b"], 5)
    with pytest.raises(DataError, match=says):
        check_folds([9, few], ["a", "b"], 5)
