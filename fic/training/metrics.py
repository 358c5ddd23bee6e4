"""Accuracy and other figures of a classifier, from probabilities and targets.

Of each picture a few numbers are kept, and not the probability of every class: those of 100 000
pictures and 5000 classes would be 2 GB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOP = 5
_BLOCK = 1024  # pictures whose probabilities are ranked at once
# More have their confusions listed one by one: a matrix of 5000 classes is 276 MB of text.
_MOST_IN_MATRIX = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """Answers of a classifier for some pictures, all arrays of the shape (pictures,).

    Attributes:
        targets: index of each picture's class.
        predicted: index of the most probable class; of two equal ones the first.
        probability: that of the most probable class.
        of_truth: that of the picture's own class.
        ranks: how many classes come before the picture's own; ties by their order.
    """

    targets: NDArray[Any]
    predicted: NDArray[Any]
    probability: NDArray[Any]
    of_truth: NDArray[Any]
    ranks: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def accuracy(self) -> float | None:
        """Share of the pictures whose class is the most probable one; None of no pictures."""
        return _ratio(np.count_nonzero(self.predicted == self.targets), len(self))

    @property
    def loss(self) -> float | None:
        """Mean cross entropy; None of no pictures."""
        if not len(self):
            return None
        return float(-np.log(np.maximum(self.of_truth, 1e-7), dtype=np.float64).mean())


def answers_of(blocks: Iterable[NDArray[Any]], targets: NDArray[Any]) -> Answers:
    """Return what is kept of probabilities that come in blocks, (n, classes) each.

    Args:
        blocks: probabilities of all pictures, in the order of `targets`.
        targets: index of each picture's class, shape (pictures,).
    """
    count, start = len(targets), 0
    predicted, ranks = np.empty(count, np.int64), np.empty(count, np.int64)
    probability, of_truth = np.empty(count, np.float32), np.empty(count, np.float32)
    for block in blocks:
        rows = slice(start, start + len(block))
        start += len(block)
        predicted[rows] = block.argmax(axis=1)
        probability[rows] = np.take_along_axis(block, predicted[rows, None], axis=1)[:, 0]
        of_truth[rows] = np.take_along_axis(block, targets[rows, None], axis=1)[:, 0]
        ranks[rows] = _ranks(block, targets[rows])
    if start != count:
        raise ValueError(f"probabilities of {start} pictures for {count} targets")
    return Answers(
        targets=targets,
        predicted=predicted,
        probability=probability,
        of_truth=of_truth,
        ranks=ranks,
    )


def evaluate(
    probabilities: NDArray[Any], targets: NDArray[Any], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of `figures_of` for probabilities (pictures, labels)."""
    return figures_of(answers_of([probabilities], targets), labels)


def figures_of(answers: Answers, labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, top-5 accuracy, figures per class and the confusion matrix.

    `confusion_matrix[i][j]` counts the pictures of class i that were taken for class j. With more
    than 200 labels `confusions` takes its place: the entries [i, j, count] above 0, in order. A
    figure that is not defined, such as the recall of a class without pictures, is None. With fewer
    than six labels top-5 looks at no more than all of them, and is then 1.

    Args:
        answers: of a classifier.
        labels: the class names in the order of its probabilities.
    """
    targets, predicted = answers.targets, answers.predicted
    pairs, counts = np.unique(np.stack([targets, predicted]), axis=1, return_counts=True)
    right = np.bincount(targets[predicted == targets], minlength=len(labels))
    actual = np.bincount(targets, minlength=len(labels))
    taken = np.bincount(predicted, minlength=len(labels))
    return {
        "images": len(targets),
        "accuracy": answers.accuracy,
        "top_5": _ratio(np.count_nonzero(answers.ranks < _TOP), len(targets)),
        "loss": answers.loss,
        "per_class": {
            label: _class_figures(*counted)
            for label, *counted in zip(
                labels, right.tolist(), actual.tolist(), taken.tolist(), strict=True
            )
        },
        **_confusions(pairs, counts, len(labels)),
    }


def _ranks(probabilities: NDArray[Any], targets: NDArray[Any]) -> Any:
    """Return how many classes come before each picture's own, (pictures,); ties by their order."""
    ranks = np.empty(len(targets), np.int64)
    for start in range(0, len(targets), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block, own = probabilities[rows], targets[rows, None]
        least = np.take_along_axis(block, own, axis=1)
        tied = (block == least) & (np.arange(block.shape[1]) < own)
        ranks[rows] = np.count_nonzero(block > least, axis=1) + np.count_nonzero(tied, axis=1)
    return ranks


def _confusions(pairs: Any, counts: Any, classes: int) -> dict[str, Any]:
    if classes > _MOST_IN_MATRIX:
        return {"confusions": np.vstack([pairs, counts]).T.tolist()}
    matrix = np.zeros((classes, classes), np.int64)
    matrix[tuple(pairs)] = counts
    return {"confusion_matrix": matrix.tolist()}


def _class_figures(right: int, actual: int, taken: int) -> dict[str, Any]:
    return {
        "images": actual,
        "precision": _ratio(right, taken),
        "recall": _ratio(right, actual),
        "f1": _ratio(2 * right, actual + taken),
    }


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None
