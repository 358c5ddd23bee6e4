"""Which pictures a data set holds and which class each belongs to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels, in a fixed order.

    Attributes:
        paths: one file per picture.
        targets: for each path the index of its label in `labels`.
        labels: the class names; their order is the order of the model's output.
        folder: the folder that was read, or None for a list of files.
    """

    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    labels: tuple[str, ...]
    folder: Path | None = None

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.targets):
            raise ValueError(f"{len(self.paths)} paths do not go with {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of pictures of each class, in the order of `labels`."""
        counts = [0] * len(self.labels)
        for target in self.targets:
            counts[target] += 1
        return tuple(counts)

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """Return the pictures at these positions, with the same classes."""
        return Dataset(
            tuple(self.paths[index] for index in indices),
            tuple(self.targets[index] for index in indices),
            self.labels,
            self.folder,
        )

    def with_labels(self, labels: Sequence[str]) -> "Dataset":
        """Return the same pictures with other labels, all of ours among them."""
        index = {label: place for place, label in enumerate(labels)}
        moved = [index[label] for label in self.labels]
        targets = tuple(moved[target] for target in self.targets)
        return Dataset(self.paths, targets, tuple(labels), self.folder)


@dataclass(frozen=True)
class Split:
    """A data set in two parts that know the same classes."""

    train: Dataset
    val: Dataset


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out, and why, in one sentence."""

    path: Path
    reason: str


def each_once(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Return the pictures that were left out, each once, with the reason that came first."""
    first: dict[Path, Skipped] = {}
    for picture in skipped:
        first.setdefault(picture.path, picture)
    return tuple(first.values())
