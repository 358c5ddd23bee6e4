"""Progress of long work; by default it is silent."""

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
    """Receiver of progress; the command line shows it."""

    def note(self, text: str) -> None:
        """Report a choice that the user may want to know."""

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Begin a step of `total` units, `done` of which were there already."""

    def advance(self, count: int, skipped: int = 0) -> None:
        """Add units of the step that are done, and units that were left out."""

    def finish(self) -> None:
        """End the step."""

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        """Report the figures of one of at most `epochs` epochs."""


class Silence:
    """Progress that is shown nowhere."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, count: int, skipped: int = 0) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        """Do nothing."""
