"""What long work tells whoever watches it. The library's default tells nobody."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class EpochFigures:
    """Loss and accuracy after one epoch, numbered from 1."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


class Progress(Protocol):
    """Hears of each step; the command line shows it."""

    def note(self, text: str) -> None:
        """A choice was made that the user may want to know."""

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Begin a step of `total` units, `done` of which were there already."""

    def advance(self, count: int, skipped: int = 0) -> None:
        """So many more units of the step are done, and so many were left out."""

    def finish(self) -> None:
        """The step has ended."""

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        """One of at most `epochs` epochs of training has ended."""


class Silence:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Say nothing."""

    def advance(self, count: int, skipped: int = 0) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        """Say nothing."""
