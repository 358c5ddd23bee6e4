"""What the head is trained on: bottlenecks with their classes, cached or made anew."""

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..data.dataset import Skipped


class TrainingData(Protocol):
    """The bottlenecks of one data set, all float32. Close a generator that is not run to its end.

    `fic.bottlenecks.cached.Bottlenecks` reads them from the cache,
    `fic.bottlenecks.live.LiveBottlenecks` sends the pictures through the base each time.
    """

    @property
    def dataset(self) -> Dataset:
        """The pictures, with their classes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one bottleneck."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of `targets`."""

    @property
    def targets(self) -> NDArray[Any]:
        """Index of each picture's class, shape (pictures,)."""

    def __len__(self) -> int: ...

    def epoch(
        self, random: np.random.Generator, batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        """Yield (bottlenecks, targets) of each picture once, in a new order, as one of its views.

        Shapes (n, *shape) and (n,); n is `batch_size` except for the last.

        Returns:
            The pictures that could not be read any more, and were left out.
        """

    def plain(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the plain view's bottlenecks, (n, *shape), in the order of `targets`."""

    def for_statistics(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the bottlenecks that mean and variance are taken over, (n, *shape)."""

    def close(self) -> None:
        """Let go of the files behind the bottlenecks."""
