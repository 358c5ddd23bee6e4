import json
import math
import tracemalloc

import numpy as np
import pytest

from fic.training.metrics import answers_of, evaluate

LABELS = ["cat", "dog", "emu"]
# Four pictures: cat taken for cat, cat for dog, dog for dog, dog for dog. No emu.
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.25, 0.5, 0.25]], np.float32
)
TRUTH = np.array([0, 0, 1, 1])


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert evaluate(PROBABILITIES, TRUTH, LABELS)["accuracy"] == 0.75


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    matrix = evaluate(PROBABILITIES, TRUTH, LABELS)["confusion_matrix"]
    assert matrix == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_figures_of_each_class_are_those_by_hand() -> None:
    per_class = evaluate(PROBABILITIES, TRUTH, LABELS)["per_class"]
    assert per_class["cat"] == {
        "images": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert per_class["dog"] == {
        "images": 2,
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
    }


def test_figures_of_a_class_without_pictures_are_undefined() -> None:
    emu = evaluate(PROBABILITIES, TRUTH, LABELS)["per_class"]["emu"]
    assert emu == {"images": 0, "precision": None, "recall": None, "f1": None}


def test_loss_is_the_mean_of_the_negative_logarithms() -> None:
    expected = -(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.5)) / 4
    assert evaluate(PROBABILITIES, TRUTH, LABELS)["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    loss = evaluate(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"])["loss"]
    assert math.isfinite(loss)


def test_top_5_counts_the_truth_among_the_five_best() -> None:
    labels = [str(number) for number in range(8)]
    falling = np.arange(8, 0, -1, dtype=np.float32) / 36
    figures = evaluate(np.stack([falling] * 4), np.array([0, 4, 5, 7]), labels)
    assert figures["top_5"] == 0.5


def test_top_5_of_few_classes_is_1() -> None:
    assert evaluate(PROBABILITIES, TRUTH, LABELS)["top_5"] == 1.0


def test_no_pictures_have_no_figures() -> None:
    figures = evaluate(np.empty((0, 3), np.float32), np.empty(0, int), LABELS)
    assert (figures["images"], figures["accuracy"], figures["loss"]) == (0, None, None)


def test_figures_are_plain_json() -> None:
    figures = evaluate(PROBABILITIES, TRUTH, LABELS)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_ties_go_to_the_class_that_comes_first() -> None:
    labels = [str(number) for number in range(8)]
    figures = evaluate(np.full((8, 8), 1 / 8, np.float32), np.arange(8), labels)
    assert figures["top_5"] == 5 / 8


def test_top_5_is_that_of_a_stable_sort() -> None:
    random = np.random.default_rng(0)
    probabilities = random.integers(0, 6, (3000, 12)).astype(np.float32)  # with many ties
    targets = random.integers(0, 12, 3000)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    expected = (best == targets[:, None]).any(axis=1).mean()
    assert evaluate(probabilities, targets, [*"abcdefghijkl"])["top_5"] == expected


def test_confusions_of_many_classes_are_listed() -> None:
    labels = [str(number) for number in range(201)]
    probabilities = np.zeros((4, 201), np.float32)
    probabilities[range(4), [5, 200, 5, 7]] = 1
    figures = evaluate(probabilities, np.array([5, 3, 5, 3]), labels)
    assert "confusion_matrix" not in figures
    assert figures["confusions"] == [[3, 7, 1], [3, 200, 1], [5, 5, 2]]
    assert figures["per_class"]["3"] == {"images": 2, "precision": None, "recall": 0.0, "f1": 0.0}


def test_of_many_classes_only_a_few_numbers_are_kept() -> None:
    """All probabilities together would be 40 MB."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 1000, 10_000)
    tracemalloc.start()
    try:
        blocks = (random.random((100, 1000), np.float32) for _ in range(100))
        answers = answers_of(blocks, targets)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert len(answers) == 10_000
    assert 0.05 < (answers.ranks < 100).mean() < 0.15
