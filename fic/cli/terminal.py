"""Progress on a terminal: bars for long work, lines elsewhere."""

import logging
import sys
from typing import TYPE_CHECKING

import click

from fic_runtime.cli.process import surviving
from fic_runtime.errors import printable

from ..progress import Bars

if TYPE_CHECKING:
    from fic_runtime.images.picture_files import FileUse

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


def report_files(files: "FileUse") -> None:
    """Say on one line what became of the files that were found, unless all of them were used."""
    for line in files.details():
        log.info("%s", line)
    if line := files.line():
        _say(line)
