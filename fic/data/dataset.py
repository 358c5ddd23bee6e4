"""Data sets in memory: paths of pictures with their classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fic_runtime.images.picture_files import FileUse


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out, with the reason in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels, in a fixed order.

    Attributes:
        paths: one file per picture.
        targets: for each path the index of its label in `labels`.
        labels: the class names; their order is the order of the model's output.
        folder: the folder that was read, or None for a list of files.
        files: what became of all the files that were found there.
        skipped: pictures that were named and cannot be used.
    """

    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    labels: tuple[str, ...]
    folder: Path | None = None
    files: FileUse = field(default=FileUse(), compare=False, repr=False)
    skipped: tuple[Skipped, ...] = field(default=(), compare=False, repr=False)

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
        """Return the pictures at these positions, with the same classes; `files` stays behind."""
        return Dataset(
            tuple(self.paths[index] for index in indices),
            tuple(self.targets[index] for index in indices),
            self.labels,
            self.folder,
        )

    def with_labels(self, labels: Sequence[str]) -> "Dataset":
        """Return the same pictures with other labels, all of ours among them."""
        index_of = {label: index for index, label in enumerate(labels)}
        moved = [index_of[label] for label in self.labels]
        targets = tuple(moved[target] for target in self.targets)
        return replace(self, targets=targets, labels=tuple(labels))


@dataclass(frozen=True)
class Split:
    """A data set in two parts that know the same classes; `files` and `skipped` are of both."""

    train: Dataset
    val: Dataset
    files: FileUse = field(default=FileUse(), compare=False, repr=False)
    skipped: tuple[Skipped, ...] = field(default=(), compare=False, repr=False)


def each_once(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Return the pictures that were left out, each once, with the reason that came first."""
    first: dict[Path, Skipped] = {}
    for picture in skipped:
        first.setdefault(picture.path, picture)
    return tuple(first.values())
