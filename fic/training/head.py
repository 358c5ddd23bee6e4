"""Train the head on bottlenecks, streamed batch by batch.

One trainer for each kind of head: NumPy for those of dense layers (`fic.training.dense_head`), and
Keras for all others (`fic.training.keras_head`). Both take the same steps in the same order.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Skipped
from ..heads.dense import DenseHead, Head
from ..options import TrainingOptions
from ..progress import EpochFigures, Progress
from .data import TrainingData
from .epochs import train_epochs
from .metrics import Answers, answers_of


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, and loss and accuracy of every epoch.

    `skipped` are the training pictures that could not be read any more, each once.
    """

    model: Head
    history: list[EpochFigures]
    best_epoch: int
    skipped: Sequence[Skipped] = ()


def train_head(
    head: Head,
    train: TrainingData,
    val: TrainingData,
    options: TrainingOptions,
    progress: Progress,
) -> TrainedHead:
    """Train a head on the cross entropy and return it as it was after the best epoch.

    A Keras model is changed, a dense head is not. The same seed, head, bottlenecks and machine
    give the same result.

    Raises:
        TrainingError: the loss is not a number any more.
    """
    from .dense_head import DenseLearner

    rate = f"--lr than {options.resolved().learning_rate:g}"
    epochs = range(1, options.epochs + 1)
    if isinstance(head, DenseHead):
        dense = DenseLearner(head, train, val, options)
        done = train_epochs(dense, epochs, options, progress, learning_rate=rate)
        return TrainedHead(dense.head, done.history, done.best_epoch, done.skipped)
    from .keras_head import KerasLearner

    learner = KerasLearner(head, train, val, options)
    done = train_epochs(learner, epochs, options, progress, learning_rate=rate)
    return TrainedHead(head, done.history, done.best_epoch, done.skipped)


def validation_answers(head: Head, pictures: TrainingData) -> Answers:
    """Return the head's answers for the plain view of each picture."""
    return answers_of(_probabilities(head, pictures), pictures.targets)


def probabilities(head: Head, pictures: TrainingData) -> NDArray[Any]:
    """Return all probabilities for the plain view of each picture, (pictures, classes)."""
    none = np.empty((0, len(pictures.labels)), np.float32)
    return np.concatenate([none, *_probabilities(head, pictures)])


def _probabilities(head: Head, pictures: TrainingData) -> Iterator[NDArray[Any]]:
    with closing(pictures.plain()) as plain:
        for block in plain:
            yield np.asarray(head.predict_on_batch(block))
