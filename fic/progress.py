"""Progress of long work: bars where somebody watches, and elsewhere nothing."""

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fic_runtime.images.picture_files import FileUse

log = logging.getLogger(__name__)


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


class Bars:
    """Progress bars and lines, on a terminal or in a notebook."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._skipped = self._done = 0

    def note(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        _tqdm().write(text, file=sys.stderr)

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Open a bar for `total` units; none where nothing is left."""
        self._skipped, self._done = 0, done
        if total == done:
            return
        self._bar = _tqdm()(
            total=total,
            initial=done,
            desc=title,
            unit=f" {unit}s",
            dynamic_ncols=True,
            leave=False,
            postfix={"hits": done} if done else None,
        )

    def advance(self, count: int, skipped: int = 0) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._skipped += skipped
        if self._skipped:
            self._bar.set_postfix(hits=self._done, skipped=self._skipped, refresh=False)
        self._bar.update(count + skipped)

    def finish(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        """Print one line."""
        self.note(epoch_line(figures, epochs))


def shown(progress: Progress | bool | None) -> Progress:
    """Return the receiver that an argument stands for.

    Args:
        progress: a receiver; None for bars where somebody watches, a terminal or a notebook; True
            for bars in any case, False for none.
    """
    if progress is None:
        progress = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    if isinstance(progress, bool):
        return Bars() if progress else Silence()
    return progress


def note_files(files: "FileUse", progress: Progress, *, place: Path | None = None) -> None:
    """Say on one line what became of the files that were found, unless all of them were used.

    Args:
        files: what became of them; each that was left out is logged.
        progress: hears of the line.
        place: where they were found, if that is not where a run was trained.
    """
    for detail in files.details():
        log.info("%s", detail)
    if line := files.line():
        progress.note(line if place is None else f"{place}: {line}")


def epoch_line(figures: EpochFigures, epochs: int) -> str:
    """Return the figures of an epoch as one line of text."""
    return (
        f"epoch {figures.epoch:>3}/{epochs}  "
        f"loss {figures.loss:.4f}  accuracy {figures.accuracy:.4f}  "
        f"validation loss {figures.val_loss:.4f}  accuracy {figures.val_accuracy:.4f}"
    )


def _tqdm() -> Any:
    with warnings.catch_warnings():
        # It warns in a notebook without widgets, and draws bars of text there.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm
