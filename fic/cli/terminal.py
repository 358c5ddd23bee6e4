"""Progress on a terminal: bars for long work, lines elsewhere."""

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fic_runtime.cli.process import surviving
from fic_runtime.errors import printable

from ..progress import Bars

if TYPE_CHECKING:
    from fic_runtime.images.picture_files import FileUse

    from ..bottlenecks.cached import CacheUse

log = logging.getLogger(__name__)


class TerminalProgress(Bars):
    """Shows steps as progress bars, and choices and epochs as lines; all on standard error."""

    def note(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        _say(text)

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Open a bar; none where nothing is left or without a terminal."""
        if sys.stderr.isatty():
            super().start(title, total, unit=unit, done=done)


def _say(text: str) -> None:
    # No training is lost because nobody listens any more (`2>&1 | head`).
    with surviving(sys.stderr):
        click.echo("\n".join(map(printable, text.split("\n"))), err=True)


def report_use(use: "CacheUse") -> None:
    """Name the pictures that were skipped, and say what became of all files."""
    report_skipped([picture.reason for picture in use.skipped])
    report_files(use.files)


def report_skipped(reasons: Sequence[str]) -> None:
    """Say how many pictures could not be read, and why each one could not."""
    if reasons:
        _say(f"pictures skipped: {len(reasons)}")
    for reason in reasons:
        _say(f"  {printable(reason)}")


def report_files(files: "FileUse") -> None:
    """Say on one line what became of the files that were found, unless all of them were used."""
    for line in files.details():
        log.info("%s", line)
    if line := files.line():
        _say(line)
