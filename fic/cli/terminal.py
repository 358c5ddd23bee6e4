"""Progress on a terminal: bars for long work, lines elsewhere."""

import sys

import click

from fic_runtime.cli.process import surviving

from ..progress import Bars


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
        click.echo(text, err=True)
