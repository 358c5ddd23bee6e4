"""Results appear whole or not at all: a folder, or one zip archive of reproducible bytes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from .errors import OutputError
from .graphs.files import weights_file

_SUFFIX = ".zip"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can hold; the time says nothing here
_UNIX = 3


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
    # Beside the target or its first parent that exists: a rename works within one file system.
    place = next(parent for parent in folder.parents if parent.exists())
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=place))
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        # Again: the block may have taken minutes.
        check_replaceable(folder, mark=mark)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _replace(folder, fresh, aside=work / "old")
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


def check_place(place: Path, *, mark: str) -> None:
    """Make sure that a folder, or an archive if the name ends in .zip, may be written at `place`.

    Raises:
        OutputError: something is there that is not an earlier result, which holds the file `mark`.
    """
    if place.suffix.lower() != _SUFFIX:
        check_replaceable(place, mark=mark)
    elif place.is_dir():
        raise OutputError(f"{place}: is a folder; give another name, or one without .zip")
    elif place.exists() and not _holds(place, mark):
        raise OutputError(f"{place}: is a file that holds no {mark}; give another name")


def check_fits(folder: Path, place: Path) -> None:
    """Make sure that a bundle whose graphs are written may become what `place` says.

    Raises:
        OutputError: ONNX Runtime could not open a graph from an archive, since its weights are in
            a file beside it.
    """
    if place.suffix.lower() == _SUFFIX:
        for path in sorted(folder.glob("*.onnx")):
            if path.with_name(weights_file(path.name)).exists():
                raise OutputError(
                    f"{place}: {path.name} is larger than 2 GB, so its weights are in a file of "
                    "their own, which cannot be read inside an archive; give a folder"
                )


@contextmanager
def replacing_result(place: Path, *, mark: str) -> Iterator[Path]:
    """Give a temporary folder that becomes `place` when the block ends well, packed if it is .zip.

    Otherwise nothing is left and `place` is as it was.

    Raises:
        OutputError: see `check_place`.
    """
    check_place(place, mark=mark)
    if place.suffix.lower() != _SUFFIX:
        with replacing_folder(place, mark=mark) as folder:
            yield folder
        return
    # Through a link: what it leads to is replaced. Beside it, since a rename needs one disk.
    place = place.resolve()
    home = next(parent for parent in place.parents if parent.exists())
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=home))
    try:
        folder = work / "bundle"
        folder.mkdir()
        yield folder
        _pack(folder, work / "packed")
        check_place(place, mark=mark)  # again: the block may have taken minutes
        place.parent.mkdir(parents=True, exist_ok=True)
        (work / "packed").replace(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pack(folder: Path, archive: Path) -> None:
    """Store the files without packing them: weights hardly shrink, and opening stays quick."""
    with archive.open("wb") as file:
        with ZipFile(file, "w", ZIP_STORED) as packed:
            for path in sorted(folder.iterdir()):
                entry = ZipInfo(path.name, _EARLIEST)
                entry.create_system = _UNIX
                entry.external_attr = 0o644 << 16
                entry.file_size = path.stat().st_size  # past 2 GB it needs another header
                with path.open("rb") as source, packed.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _holds(archive: Path, mark: str) -> bool:
    try:
        with ZipFile(archive) as packed:
            return mark in packed.namelist()
    except (BadZipFile, OSError):
        return False
