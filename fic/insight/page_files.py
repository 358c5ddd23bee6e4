"""Pages that stand alone as a file: written in place of an earlier page and of nothing else."""

import errno
import os
from pathlib import Path

from fic_export.errors import OutputError
from fic_runtime.reading import open_regular
from fic_runtime.results import cannot_write, check_writable, whole_file


def check_page(file: Path) -> None:
    """Make sure that a page can be written, in place of an earlier one at most.

    Raises:
        OutputError: it cannot be written there, or something else is there.
    """
    if not file.parent.is_dir():  # which is not made for it: a slip of the pen, more often than not
        raise cannot_write(file, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    check_writable(file)
    if file.is_dir():
        raise OutputError(f"{file}: is a folder; give the name of a file")
    if not file.exists():
        return
    try:
        with open_regular(file) as stream:
            start = stream.read(4096)
    except OSError as error:
        raise cannot_write(file, error) from error
    if b"Content-Security-Policy" not in start or not start.startswith(b"<!doctype html>"):
        raise OutputError(f"{file}: is not a report; give another name")


def write_page(file: Path, text: str) -> None:
    """Write a page; it appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with whole_file(file) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise cannot_write(file, error) from error
