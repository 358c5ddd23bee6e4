"""Dense heads trained in NumPy, against Keras's training of the same heads."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from fic.heads.building import parse_head
from fic.heads.dense import build_dense
from fic.heads.dense_files import to_keras
from fic.options import Optimizer, TrainingOptions
from fic.progress import Silence
from fic.training.arrays import ArrayData, fit_head
from fic.training.head import probabilities, train_head
from fic.training.starting_head import statistics_of

CLASSES = 5


def pictures(seed: int, count: int, shape: tuple[int, ...]) -> ArrayData:
    """Return bottlenecks of overlapping classes of different sizes."""
    random = np.random.default_rng(seed)
    targets = np.minimum(random.integers(0, CLASSES + 2, count), CLASSES - 1)
    centres = np.random.default_rng(0).normal(size=(CLASSES, shape[-1]))[targets]
    noise = random.normal(0, 1.5, (count, *shape))
    centres = centres.reshape(count, *(1 for _ in shape[:-1]), shape[-1])
    features = np.maximum(centres + noise, 0).astype(np.float32)
    return ArrayData(features, targets, tuple("abcde"))


def difference(kind: str, options: TrainingOptions, shape: tuple[int, ...] = (20,)) -> float:
    """Return how far the answers of both trainings are from each other at most."""
    train, val = pictures(1, 150, shape), pictures(2, 60, shape)
    head = build_dense(parse_head(kind), shape, CLASSES, statistics_of(train), seed=options.seed)
    # As a training with Keras would begin: the seed is set, and the layers draw theirs.
    import keras

    keras.utils.set_random_seed(options.seed)
    mine, other = (
        train_head(each, train, val, options, Silence()) for each in (head, to_keras(head))
    )
    assert [one.epoch for one in mine.history] == [one.epoch for one in other.history]
    assert mine.best_epoch == other.best_epoch
    for one, two in zip(mine.history, other.history, strict=True):
        assert one.loss == pytest.approx(two.loss, abs=1e-4)
        assert one.val_loss == pytest.approx(two.val_loss, abs=1e-4)
    answers = [probabilities(trained.model, val) for trained in (mine, other)]
    assert np.abs(answers[0] - probabilities(head, val)).max() > 0.01
    return float(np.abs(answers[0] - answers[1]).max())


OPTIONS = TrainingOptions(epochs=12, seed=3, patience=0, batch_size=16)


@pytest.mark.parametrize("kind", ["linear", "mlp:16"])
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_takes_the_steps_of_keras(kind: str, optimizer: Optimizer) -> None:
    assert difference(kind, replace(OPTIONS, optimizer=optimizer)) < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        replace(OPTIONS, class_weights="balanced", label_smoothing=0.1, weight_decay=0.2),
        replace(OPTIONS, monitor="accuracy", patience=2, learning_rate=0.02, epochs=30),
    ],
    ids=["the loss", "early stopping"],
)
@pytest.mark.parametrize("kind", ["linear", "mlp:8,0"])
def test_every_other_option_does_what_it_does_in_keras(kind: str, options: TrainingOptions) -> None:
    assert difference(kind, options) < 1e-4


def test_maps_are_averaged_as_in_keras() -> None:
    assert difference("linear", replace(OPTIONS, epochs=3), shape=(3, 2, 20)) < 1e-4


def test_a_new_head_is_fitted_on_arrays() -> None:
    data = pictures(1, 200, (20,))
    train, val = data.part(np.arange(150)), data.part(np.arange(150, 200))
    trained = fit_head(train, val, replace(OPTIONS, epochs=30, learning_rate=0.01))
    assert len(trained.history) == 30
    assert (probabilities(trained.model, val).argmax(axis=1) == val.targets).mean() > 0.6
    with pytest.raises(ValueError, match="only dense heads"):
        fit_head(train, val, replace(OPTIONS, head="rest"))
