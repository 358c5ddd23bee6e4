"""The loop over epochs, with a learner whose validation losses are written down beforehand."""

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fic.data.dataset import Skipped
from fic.errors import TrainingError
from fic.options import TrainingOptions
from fic.progress import Silence
from fic.training.epochs import TrainedEpochs, TrainingPass, Validation, take_steps, train_epochs
from fic.training.metrics import answers_of

RATE = "--lr than 0.1"
GONE = Skipped(Path("gone.jpg"), "gone.jpg: is gone")


def validation(loss: float, accuracy: float = 0.5) -> Validation:
    return Validation(loss, accuracy, answers_of([], np.empty(0, np.int64)))


class Scripted:
    """Its only weight is the number of epochs that it was trained for."""

    def __init__(self, validations: Sequence[Validation]) -> None:
        self._validations = iter(validations)
        self.epochs = 0
        self.skipped: Sequence[Skipped] = ()

    def train(self) -> TrainingPass:
        self.epochs += 1
        return TrainingPass(1.0, 0.5, self.skipped)

    def validate(self) -> Validation:
        return next(self._validations)

    def weights(self) -> list[NDArray[Any]]:
        return [np.array(self.epochs)]

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        self.epochs = int(weights[0])


def batches() -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
    for size in (3, 1):
        yield np.zeros(size), np.zeros(size)
    return [GONE]


def run(
    *losses: float, first: int = 1, before: Validation | None = None, patience: int = 0
) -> tuple[Scripted, TrainedEpochs]:
    learner = Scripted([validation(loss) for loss in losses])
    epochs = range(first, first + len(losses))
    options = TrainingOptions(patience=patience)
    done = train_epochs(learner, epochs, options, Silence(), learning_rate=RATE, before=before)
    return learner, done


def test_the_weights_of_the_best_epoch_are_put_back() -> None:
    learner, done = run(0.5, 0.3, 0.4)
    assert (learner.epochs, done.best_epoch) == (2, 2)
    assert done.best is not None
    assert done.best.loss == 0.3
    assert [figures.val_loss for figures in done.history] == [0.5, 0.3, 0.4]


def test_of_two_equal_epochs_the_first_is_kept() -> None:
    assert run(0.5, 0.5)[1].best_epoch == 1


def test_what_was_there_before_is_a_candidate() -> None:
    learner, done = run(0.5, 0.4, first=7, before=validation(0.2))
    assert (learner.epochs, done.best_epoch) == (0, 0)
    assert done.best is not None
    assert done.best.loss == 0.2


def test_epochs_keep_their_numbers() -> None:
    _, done = run(0.5, 0.1, first=7, before=validation(0.2))
    assert ([figures.epoch for figures in done.history], done.best_epoch) == ([7, 8], 8)


def test_patience_counts_from_the_best_epoch() -> None:
    assert len(run(0.5, 0.4, 0.6, 0.7, 0.1, patience=2)[1].history) == 4


def test_patience_counts_from_the_start_where_nothing_is_better_than_before() -> None:
    _, done = run(0.5, 0.4, 0.3, 0.1, first=7, before=validation(0.2), patience=3)
    assert len(done.history) == 3


def test_no_epoch_changes_nothing() -> None:
    learner, done = run()
    assert (learner.epochs, done) == (0, TrainedEpochs([], 0, None))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_the_epoch_and_the_remedy(loss: float) -> None:
    with pytest.raises(TrainingError, match=r"after epoch 2; use a smaller --lr than 0\.1"):
        run(0.5, loss)


def test_the_figures_of_an_epoch_are_means_over_its_pictures() -> None:
    done = take_steps(lambda inputs, _: (2.0 * len(inputs), 1.0), batches())
    assert done == TrainingPass(2.0, 0.5, [GONE])


def test_a_picture_left_out_of_every_epoch_is_named_once() -> None:
    learner = Scripted([validation(0.5), validation(0.4)])
    learner.skipped = [GONE]
    options = TrainingOptions()
    done = train_epochs(learner, range(1, 3), options, Silence(), learning_rate=RATE)
    assert done.skipped == (GONE,)
