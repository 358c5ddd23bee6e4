"""Accuracy and other figures of a classifier, from probabilities and targets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOP = 5


def evaluate(
    probabilities: NDArray[Any], targets: NDArray[Any], labels: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, top-5 accuracy, figures per class and the confusion matrix.

    `confusion_matrix[i][j]` counts the pictures of class i that were taken for class j. A figure
    that is not defined, such as the recall of a class without pictures, is None. With fewer than
    six labels top-5 looks at no more than all of them, and is then 1.

    Args:
        probabilities: shape (pictures, labels).
        targets: index of each picture's label, shape (pictures,).
        labels: the class names in the order of the probabilities.
    """
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(matrix, (targets, predicted), 1)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    return {
        "images": len(targets),
        "accuracy": _ratio(np.trace(matrix), len(targets)),
        "top_5": _ratio((best == targets[:, None]).any(axis=1).sum(), len(targets)),
        "loss": _cross_entropy(probabilities, targets),
        "per_class": {label: _class_figures(matrix, i) for i, label in enumerate(labels)},
        "confusion_matrix": matrix.tolist(),
    }


def _class_figures(matrix: NDArray[Any], index: int) -> dict[str, Any]:
    right, actual, taken = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
    return {
        "images": int(actual),
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
