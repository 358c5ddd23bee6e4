"""Dense heads fitted on bottlenecks in memory, for whoever has them as arrays."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..data.dataset import Skipped
from ..heads.building import parse_head
from ..heads.dense import build_dense
from ..options import TrainingOptions
from ..progress import Progress, Silence
from .data import TrainingData
from .head import TrainedHead, train_head
from .starting_head import statistics_of

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class ArrayData:
    """Bottlenecks in memory as `TrainingData`.

    Attributes:
        bottlenecks: float32 (pictures, *shape).
        targets: index of each picture's class, int64 (pictures,).
        labels: the class names.
    """

    bottlenecks: NDArray[Any]
    targets: NDArray[Any]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one bottleneck."""
        return self.bottlenecks.shape[1:]

    @cached_property
    def dataset(self) -> Dataset:
        """The classes of pictures whose paths are numbers."""
        paths = tuple(Path(str(number)) for number in range(len(self)))
        return Dataset(paths, tuple(self.targets.tolist()), self.labels)

    def part(self, rows: NDArray[Any]) -> "ArrayData":
        """Return the pictures at these rows, such as those of a fold."""
        return ArrayData(self.bottlenecks[rows], self.targets[rows], self.labels)

    def epoch(
        self, random: np.random.Generator, batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        """Yield each picture once, in a new order; see `TrainingData`."""
        order = random.permutation(len(self))
        for start in range(0, len(self), batch_size):
            rows = order[start : start + batch_size]
            yield self.bottlenecks[rows], self.targets[rows]
        return ()

    def plain(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the bottlenecks, in order."""
        for start in range(0, len(self), _BLOCK):
            yield self.bottlenecks[start : start + _BLOCK]

    def for_statistics(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the bottlenecks, in order."""
        return self.plain()

    def close(self) -> None:
        """Do nothing."""


def fit_head(
    train: TrainingData,
    val: TrainingData,
    options: TrainingOptions,
    progress: Progress | None = None,
) -> TrainedHead:
    """Train a new `linear` or `mlp` head, as `fic train` does with the same options.

    The seed decides the first weights, dropout and the order of the pictures.

    Raises:
        HeadError: `options.head` has another form.
        TrainingError: the loss is not a number any more.
    """
    choice = parse_head(options.head or "linear")
    if choice.kind not in ("linear", "mlp"):
        raise ValueError(f"head {options.head}: only dense heads are fitted on arrays")
    head = build_dense(
        choice, train.shape, len(train.labels), statistics_of(train), seed=options.seed
    )
    return train_head(head, train, val, options, progress or Silence())
