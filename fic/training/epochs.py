"""Epochs of a training: the best one is kept, and patience ends the training.

One loop for the head alone and for fine-tuning, with what goes with it: the history, the figures
for TensorBoard, and the progress that the user sees.
"""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Skipped, each_once
from ..errors import TrainingError, one_line
from ..options import TrainingOptions
from ..progress import EpochFigures, Progress
from .event_files import EventFile
from .metrics import Answers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Loss and accuracy on the validation pictures, and the answers for them."""

    loss: float
    accuracy: float
    answers: Answers


@dataclass(frozen=True)
class TrainingPass:
    """Mean loss and accuracy of one pass over the training pictures, and those left out of it."""

    loss: float
    accuracy: float
    skipped: Sequence[Skipped] = ()


class Learner(Protocol):
    """A network in training, with its pictures."""

    def train(self) -> TrainingPass:
        """Show each training picture once."""

    def validate(self) -> Validation:
        """Measure the network on the validation pictures."""

    def weights(self) -> list[NDArray[Any]]:
        """Return copies of all that training changes."""

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take back what `weights` returned."""


@dataclass(frozen=True)
class TrainedEpochs:
    """Figures of all epochs, and the best of them.

    Attributes:
        history: the figures of each epoch, in order.
        best_epoch: number of the best epoch; 0 if none was better than what was there before.
        best: the validation of the best epoch, or of what was there before; None if nothing was
            ever validated.
        skipped: the training pictures that could not be read any more, each once.
    """

    history: list[EpochFigures]
    best_epoch: int
    best: Validation | None
    skipped: Sequence[Skipped] = ()


def train_epochs(
    learner: Learner,
    epochs: range,
    options: TrainingOptions,
    progress: Progress,
    *,
    learning_rate: str,
    before: Validation | None = None,
) -> TrainedEpochs:
    """Train until the last epoch or the end of patience, and leave the best weights in place.

    Args:
        learner: what is trained.
        epochs: their numbers.
        options: how the best epoch is told, the patience, and the folder for TensorBoard.
        progress: told of each epoch.
        learning_rate: option and value, such as `--lr than 0.001`, for the message of the error.
        before: the validation of the untrained weights, if they are a candidate, too.

    Raises:
        TrainingError: the loss is not a number any more.
    """
    history: list[EpochFigures] = []
    skipped: list[Skipped] = []
    best, best_epoch, best_weights = before, 0, learner.weights()
    # The empty tuple is below any other.
    best_merit: tuple[float, ...] = () if before is None else _merit(before, options)
    with _EventFiles(options.logs) as events:
        for epoch in epochs:
            training = learner.train()
            skipped += training.skipped
            validation = learner.validate()
            _check_finite(epoch, (training.loss, validation.loss), learning_rate)
            figures = EpochFigures(
                epoch=epoch,
                loss=training.loss,
                accuracy=training.accuracy,
                val_loss=validation.loss,
                val_accuracy=validation.accuracy,
            )
            history.append(figures)
            events.write(figures)
            progress.epoch(figures, epochs[-1])
            merit = _merit(validation, options)
            if merit > best_merit:
                best, best_epoch, best_weights = validation, epoch, learner.weights()
                best_merit = merit
            elif options.patience and epoch - (best_epoch or epochs[0] - 1) >= options.patience:
                break
    learner.set_weights(best_weights)
    return TrainedEpochs(history, best_epoch, best, each_once(skipped))


def take_steps(
    step: Callable[[NDArray[Any], NDArray[Any]], Any],
    batches: Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]],
) -> TrainingPass:
    """Call `step` with the inputs and targets of each batch.

    Args:
        step: returns the summed loss and the number of right answers of a batch.
        batches: closed afterwards, also where a step fails; returns what was left out.
    """
    sums, count = np.zeros(2), 0
    with closing(batches):
        while True:
            try:
                inputs, targets = next(batches)
            except StopIteration as end:
                skipped = end.value
                break
            sums += [float(figure) for figure in step(inputs, targets)]
            count += len(targets)
    loss, accuracy = sums / count
    return TrainingPass(float(loss), float(accuracy), skipped)


def validation_of(answers: Answers) -> Validation:
    """Return the validation that the answers for the validation pictures are."""
    loss, accuracy = answers.loss, answers.accuracy
    if loss is None or accuracy is None:
        raise ValueError("no pictures to validate on")
    return Validation(loss, accuracy, answers)


def _merit(validation: Validation, options: TrainingOptions) -> tuple[float, ...]:
    """Return a tuple that compares higher for a better epoch."""
    if options.monitor == "loss":
        return (-validation.loss,)
    # Accuracy moves in steps of one picture, so epochs often have the same.
    return validation.accuracy, -validation.loss


def _check_finite(epoch: int, losses: Sequence[float], learning_rate: str) -> None:
    for loss in losses:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} after epoch {epoch}; use a smaller {learning_rate}"
            )


class _EventFiles:
    """Each epoch's figures as events for TensorBoard, of training and validation apart."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[str, EventFile] = {}
        if folder is not None:
            with self._surviving():
                for kind in ("train", "validation"):
                    self._files[kind] = EventFile(folder / kind)

    def __enter__(self) -> "_EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        with self._surviving():
            for file in self._files.values():
                file.close()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Go on without the files where they cannot be written: the training is worth more."""
        try:
            yield
        except OSError as error:
            self._files = {}
            log.warning("%s: cannot be written any more (%s)", self._folder, one_line(error))

    def write(self, figures: EpochFigures) -> None:
        values = {
            "train": {"epoch_loss": figures.loss, "epoch_accuracy": figures.accuracy},
            "validation": {"epoch_loss": figures.val_loss, "epoch_accuracy": figures.val_accuracy},
        }
        with self._surviving():
            for kind, file in self._files.items():
                file.add(figures.epoch, values[kind])
