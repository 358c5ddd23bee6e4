"""Dense heads trained in NumPy, against Keras's training of the same heads."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from fic.data import Dataset
from fic.data.dataset import Skipped
from fic.heads.building import Statistics, parse_head
from fic.heads.dense import build_dense
from fic.heads.dense_files import to_keras
from fic.options import Optimizer, TrainingOptions
from fic.progress import Silence
from fic.training.head import probabilities, train_head

CLASSES = 5


@dataclass(frozen=True)
class Memory:
    """Bottlenecks in memory, with the classes of their pictures."""

    bottlenecks: NDArray[Any]
    targets: NDArray[Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple("abcde")

    @property
    def dataset(self) -> Dataset:
        paths = tuple(Path(str(number)) for number in range(len(self)))
        return Dataset(paths, tuple(self.targets.tolist()), self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bottlenecks.shape[1:]

    def __len__(self) -> int:
        return len(self.targets)

    def epoch(
        self, random: np.random.Generator, batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        order = random.permutation(len(self))
        for start in range(0, len(self), batch_size):
            chosen = order[start : start + batch_size]
            yield self.bottlenecks[chosen], self.targets[chosen]
        return ()

    def plain(self) -> Generator[NDArray[Any], None, None]:
        yield self.bottlenecks

    def for_statistics(self) -> Generator[NDArray[Any], None, None]:
        yield self.bottlenecks

    def close(self) -> None:
        pass


def pictures(seed: int, count: int, shape: tuple[int, ...]) -> Memory:
    """Return bottlenecks of overlapping classes of different sizes."""
    random = np.random.default_rng(seed)
    targets = np.minimum(random.integers(0, CLASSES + 2, count), CLASSES - 1)
    centres = np.random.default_rng(0).normal(size=(CLASSES, shape[-1]))[targets]
    noise = random.normal(0, 1.5, (count, *shape))
    centres = centres.reshape(count, *(1 for _ in shape[:-1]), shape[-1])
    return Memory(np.maximum(centres + noise, 0).astype(np.float32), targets)


def difference(kind: str, options: TrainingOptions, shape: tuple[int, ...] = (20,)) -> float:
    """Return how far the answers of both trainings are from each other at most."""
    train, val = pictures(1, 150, shape), pictures(2, 60, shape)
    features = train.bottlenecks.mean(axis=tuple(range(1, len(shape))))
    statistics = Statistics(mean=features.mean(axis=0), variance=features.var(axis=0))
    head = build_dense(parse_head(kind), shape, CLASSES, statistics, seed=options.seed)
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
