"""Which pictures a data set holds and which class each belongs to."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels, in a fixed order.

    Attributes:
        paths: one file per picture.
        labels: for each path the index of its class in `classes`.
        classes: the class names; their order is the order of the model's output.
        folder: the folder that was read, or None for a list of files.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    folder: Path | None = None

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths do not go with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of pictures of each class, in the order of `classes`."""
        counts = [0] * len(self.classes)
        for label in self.labels:
            counts[label] += 1
        return tuple(counts)

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """Return the pictures at these positions, with the same classes."""
        return Dataset(
            tuple(self.paths[index] for index in indices),
            tuple(self.labels[index] for index in indices),
            self.classes,
            self.folder,
        )

    def with_classes(self, classes: Sequence[str]) -> "Dataset":
        """Return the same pictures where `classes`, all of ours among them, are the classes."""
        places = [list(classes).index(name) for name in self.classes]
        labels = tuple(places[label] for label in self.labels)
        return Dataset(self.paths, labels, tuple(classes), self.folder)


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


def is_class_name(name: str) -> bool:
    """Tell whether `name` can stand on a line of `labels.txt`, in UTF-8."""
    return bool(name) and not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name
    )
