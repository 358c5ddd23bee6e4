"""Progress on a terminal: bars for long work, lines elsewhere."""

import contextlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

import click

from fic_runtime.cli.process import surviving

from ..progress import EpochFigures

if TYPE_CHECKING:
    from fic_runtime.images.picture_files import FileUse

log = logging.getLogger(__name__)


class TerminalProgress:
    """Shows steps as progress bars, and choices and epochs as lines; all on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._skipped = 0
        self._done = 0

    def note(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        _say(text)

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        """Open a bar for `total` units; none where nothing is left or without a terminal."""
        self._skipped, self._done = 0, done
        if total == done or not sys.stderr.isatty():
            return
        from tqdm import tqdm

        self._bar = tqdm(
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
        _say(
            f"epoch {figures.epoch:>3}/{epochs}  "
            f"loss {figures.loss:.4f}  accuracy {figures.accuracy:.4f}  "
            f"validation loss {figures.val_loss:.4f}  accuracy {figures.val_accuracy:.4f}"
        )


def _say(text: str) -> None:
    # No training is lost because nobody listens any more (`2>&1 | head`).
    with surviving(sys.stderr):
        click.echo(text, err=True)


def report_files(files: "FileUse") -> None:
    """Say on one line what became of the files that were found, unless all of them were used."""
    for line in files.details():
        log.info("%s", line)
    if line := files.line():
        _say(line)


class QuietTensorFlow(MetaPathFinder):
    """Keeps TensorFlow's notices about this machine's processor out of the user's way.

    They are written by C++ before any setting of theirs is read, so the only way to do without
    them is to hold back standard error while the package is imported. If the import fails, what
    was held back is printed.
    """

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find TensorFlow like everybody else, and wrap its loader."""
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = (  # type: ignore[method-assign] # of this loader, not its class
                lambda module: _held_back(run, module)
            )
        return spec


def _held_back(run: Callable[[Any], None], module: Any) -> None:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notices, contextlib.ExitStack() as undo:
        terminal = os.dup(2)
        undo.callback(os.close, terminal)
        os.dup2(notices.fileno(), 2)
        try:
            run(module)
        except BaseException:
            os.dup2(terminal, 2)
            notices.seek(0)
            os.write(2, notices.read())
            raise
        finally:
            os.dup2(terminal, 2)
