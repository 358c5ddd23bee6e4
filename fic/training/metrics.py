"""Accuracy and other figures of a classifier, from probabilities and targets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOP = 5
_BLOCK = 1024  # pictures whose probabilities are ranked at once
# More have their confusions listed one by one: a matrix of 5000 classes is 276 MB of text.
_MOST_IN_MATRIX = 200


def evaluate(
    probabilities: NDArray[Any], targets: NDArray[Any], labels: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, top-5 accuracy, figures per class and the confusion matrix.

    `confusion_matrix[i][j]` counts the pictures of class i that were taken for class j. With more
    than 200 labels `confusions` takes its place: the entries [i, j, count] above 0, in order. A
    figure that is not defined, such as the recall of a class without pictures, is None. With fewer
    than six labels top-5 looks at no more than all of them, and is then 1.

    Args:
        probabilities: shape (pictures, labels).
        targets: index of each picture's label, shape (pictures,).
        labels: the class names in the order of the probabilities.
    """
    predicted = probabilities.argmax(axis=1)
    pairs, counts = np.unique(np.stack([targets, predicted]), axis=1, return_counts=True)
    right = np.bincount(targets[predicted == targets], minlength=len(labels))
    actual = np.bincount(targets, minlength=len(labels))
    taken = np.bincount(predicted, minlength=len(labels))
    return {
        "images": len(targets),
        "accuracy": _ratio(right.sum(), len(targets)),
        "top_5": _ratio((_ranks(probabilities, targets) < _TOP).sum(), len(targets)),
        "loss": _cross_entropy(probabilities, targets),
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


def _cross_entropy(probabilities: NDArray[Any], targets: NDArray[Any]) -> float | None:
    if not len(targets):
        return None
    of_truth = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(of_truth, 1e-7)).mean())
