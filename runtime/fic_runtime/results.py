"""Results appear whole or not at all: a file, a folder, or one zip archive of reproducible bytes.

The cache of bottlenecks and the one of optimised graphs write by rules of their own, since many
processes share them: see `fic.cache.locks` and `fic_runtime.graphs.cache`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from .errors import OutputError

_SUFFIX = ".zip"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can hold; the time says nothing here
_UNIX = 3
_END_OF_NAME = 16  # characters: enough for a suffix, and few enough for any file system


@contextmanager
def whole_file(path: Path, *, follow_link: bool = True) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of `path` when the block ends well.

    Otherwise nothing is left and `path` is as it was. The block makes the file, with the user's own
    umask; its name ends as `path` does, for writers that go by the suffix.

    Args:
        path: a file, new or to be replaced, in a folder that exists.
        follow_link: where `path` is a link, replace the file that it leads to and not the link.

    Raises:
        OSError: it cannot be written; `cannot_write` makes a sentence of it.
    """
    if follow_link:
        path = path.resolve()
    # Beside it: a rename works within one file system.
    part = path.with_name(f".{os.urandom(6).hex()}-{path.name[-_END_OF_NAME:]}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a result that cannot be written."""
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); free space or give another path"
    )


def check_replaceable(folder: Path, *, mark: str) -> None:
    """Make sure that `folder` is new, empty, or an earlier result that holds the file `mark`.

    Raises:
        OutputError: it is a file, or holds something else, or cannot be looked into; nothing of
            the user's is overwritten.
    """
    try:
        if folder.is_dir():
            if any(folder.iterdir()) and not (folder / mark).is_file():
                raise OutputError(
                    f"{folder}: holds other files and no {mark}; give a new or empty folder"
                )
        elif folder.exists():
            raise OutputError(f"{folder}: is a file; give a new or empty folder")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); give another folder"
        ) from error


@contextmanager
def replacing_folder(folder: Path, *, mark: str) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well.

    Otherwise nothing is left and `folder` is as it was. Folders cannot be exchanged in one step
    everywhere, so an earlier result is moved aside for the moment of the rename: a process killed
    just then leaves it, whole, in the hidden folder beside.

    Raises:
        OutputError: `folder` holds something that has no file called `mark`.
    """
    check_replaceable(folder, mark=mark)
    # Through links: what they lead to is replaced, and the links stay.
    folder = folder.resolve()
    with _work_beside(folder) as work:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        check_replaceable(folder, mark=mark)  # again: the block may have taken minutes
        folder.parent.mkdir(parents=True, exist_ok=True)
        _replace(folder, fresh, aside=work / "old")


@contextmanager
def _work_beside(path: Path) -> Iterator[Path]:
    # Beside it, or its first parent that exists: a rename works within one file system.
    home = next(parent for parent in path.parents if parent.exists())
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=home))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(folder: Path, fresh: Path, *, aside: Path) -> None:
    if folder.exists():
        folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise


def check_place(path: Path, *, mark: str) -> None:
    """Make sure that a folder, or an archive if the name ends in .zip, may be written at `path`.

    Raises:
        OutputError: something is there that is not an earlier result, which holds the file `mark`.
    """
    if path.suffix.lower() != _SUFFIX:
        check_replaceable(path, mark=mark)
    elif path.is_dir():
        raise OutputError(f"{path}: is a folder; give another name, or one without .zip")
    elif path.exists() and not _holds(path, mark):
        raise OutputError(f"{path}: is a file that holds no {mark}; give another name")


@contextmanager
def replacing_result(path: Path, *, mark: str) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, packed if it is .zip.

    Otherwise nothing is left and `path` is as it was.

    Raises:
        OutputError: see `check_place`.
    """
    check_place(path, mark=mark)
    if path.suffix.lower() != _SUFFIX:
        with replacing_folder(path, mark=mark) as folder:
            yield folder
        return
    path = path.resolve()  # through a link, as with a folder
    with _work_beside(path) as work:
        folder = work / "bundle"
        folder.mkdir()
        yield folder
        _pack(folder, work / "packed")
        check_place(path, mark=mark)
        path.parent.mkdir(parents=True, exist_ok=True)
        (work / "packed").replace(path)


def _pack(folder: Path, archive: Path) -> None:
    """Store the files without packing them: weights hardly shrink, and opening stays quick."""
    with archive.open("wb") as stream:
        with ZipFile(stream, "w", ZIP_STORED) as packed:
            for file in sorted(folder.iterdir()):
                entry = ZipInfo(file.name, _EARLIEST)
                entry.create_system = _UNIX
                entry.external_attr = 0o644 << 16
                entry.file_size = file.stat().st_size  # past 2 GB it needs another header
                with file.open("rb") as source, packed.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        stream.flush()
        os.fsync(stream.fileno())


def _holds(archive: Path, mark: str) -> bool:
    try:
        with ZipFile(archive) as packed:
            return mark in packed.namelist()
    except (BadZipFile, OSError):
        return False
