"""Answers for one picture: the best label, and all labels with their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Score:
    """One label with its index in the labels and its probability, 0..1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier says of one picture.

    `label`, `index` and `probability` are those of the most probable class; `probabilities` is
    float32, shape (number of labels,), in the order of `labels`.

    `known` is False for a picture that is not like those of the training, by `ood_score`, which is
    higher for outliers. Both are None if the bundle has no score; see `manifest.known`.
    """

    label: str
    index: int
    probability: float
    probabilities: NDArray[np.float32] = field(repr=False, compare=False)
    labels: tuple[str, ...] = field(repr=False)
    known: bool | None = None
    ood_score: float | None = None

    @classmethod
    def from_probabilities(
        cls,
        probabilities: NDArray[np.float32],
        labels: tuple[str, ...],
        *,
        known: bool | None = None,
        ood_score: float | None = None,
    ) -> Self:
        """Make the prediction that one row of the head's output stands for."""
        index = int(probabilities.argmax())
        probability = float(probabilities[index])
        return cls(labels[index], index, probability, probabilities, labels, known, ood_score)

    def top(self, k: int = 5) -> list[Score]:
        """Return the `k` most probable labels, best first; ties keep the order of the labels."""
        if k < 1:
            raise ValueError(f"k is at least 1; received {k}")
        best: Sequence[int] = range(len(self.labels))
        values = self.probabilities
        if k < len(best):
            # Sorting all of ten thousand labels takes three times as long as a prediction.
            least = np.partition(values, -k)[-k]
            best = np.flatnonzero(values >= least).tolist()
            values = values[best]
        # Few by now: NumPy's calls would take longer than Python's.
        probabilities = values.tolist()
        order = sorted(range(len(best)), key=probabilities.__getitem__, reverse=True)[:k]
        return [Score(self.labels[best[i]], best[i], probabilities[i]) for i in order]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: label, index, probability, and every probability by label.

        With `known` and `ood_score` where the bundle has such a score.
        """
        score = {} if self.known is None else {"known": self.known, "ood_score": self.ood_score}
        return {
            "label": self.label,
            "index": self.index,
            "probability": self.probability,
            **score,
            "probabilities": {
                label: float(value)
                for label, value in zip(self.labels, self.probabilities, strict=True)
            },
        }
