"""Results appear whole or not at all: a file, a folder, or one zip archive of reproducible bytes.

What is being written lies in a hidden folder `.NAME-….fic-part` beside the result, which the writer
locks; one that can be locked is of a dead process, and the next writer of the same result sweeps
it. Where folders cannot be locked (Windows, most network file systems) it sweeps one in which
nothing was written for a day.

The cache of bottlenecks and the one of optimised graphs write by rules of their own, since many
processes share them: see `fic.cache.locks` and `fic_runtime.graphs.cache`.
"""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from .errors import OutputError

if sys.platform != "win32":
    import fcntl

LITTER: frozenset[str] = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What a desktop leaves in a folder that somebody looks at."""

_SUFFIX = ".zip"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can hold; the time says nothing here
_UNIX = 3
_END_OF_NAME = _START_OF_NAME = 16  # characters: few enough for any file system
_PART = ".fic-part"  # the end of the name of what is being written
_IS_PART = re.compile(r"\..*-[0-9a-f]{12}\.fic-part", re.DOTALL)
_OLD = "old"
# A folder that containers mount, or that lies in a folder of somebody else.
_CANNOT_BE_RENAMED = frozenset({errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES})
_ABANDONED_AFTER = 24 * 3600.0  # seconds; only where folders cannot be locked
_PROBE_BYTES = 1 << 14  # no result is smaller but some heads


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
    _sweep_once(path.parent)  # which may get thousands of files
    with _work_in(path.parent, path.name, sweep=False) as work:
        part = work / f"part-{path.name[-_END_OF_NAME:]}"
        yield part
        part.replace(path)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a result that cannot be written."""
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); free space or give another path"
    )


def check_replaceable(folder: Path, *, mark: str, names: Collection[str] | None = None) -> None:
    """Make sure that `folder` is new, empty, or an earlier result that holds the file `mark`.

    Args:
        folder: where a result is to be written.
        mark: a file that each such result holds.
        names: all that an earlier result holds at its top; by default anything.

    Raises:
        OutputError: it is a file, or holds something else, or cannot be looked into; nothing of
            the user's is overwritten.
    """
    try:
        if folder.is_dir():
            there = {entry.name for entry in folder.iterdir()}
            if there and not (folder / mark).is_file():
                raise OutputError(
                    f"{folder}: holds other files and no {mark}; give a new or empty folder"
                )
            if names is not None and (other := sorted(there - {*names, *LITTER})):
                raise OutputError(
                    f"{folder}: holds {other[0]} beside an earlier result, and a new one replaces "
                    "the folder; move it away or give another folder"
                )
        elif folder.exists():
            raise OutputError(f"{folder}: is a file; give a new or empty folder")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); give another folder"
        ) from error


def check_own_file(path: Path, is_own: Callable[[Path], bool], *, kind: str) -> None:
    """Make sure that a file is new, or one that an earlier command wrote.

    Args:
        path: where a file is to be written.
        is_own: tells an earlier result by its content; what it raises counts as no.
        kind: what the command writes, for the message.

    Raises:
        OutputError: it is a folder, or a file of another origin.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if not os.path.lexists(path) or (path.is_symlink() and not path.exists()):
        return
    with suppress(Exception):  # whatever a reader makes of a file of another kind
        if path.is_file() and is_own(path):  # a pipe would never answer
            return
    raise OutputError(
        f"{path}: is there already and is not {kind} that fic wrote; "
        "move it away or give another name"
    )


def check_writable(path: Path) -> None:
    """Try, before the work begins, whether a file or a folder can be made at `path`.

    The name is tried, the folder that will hold it, and whether the disk takes some kilobytes;
    nothing is left of it.

    Raises:
        OutputError: it cannot be written there.
    """
    made: list[Path] = []
    try:
        path = path.resolve()
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir()
                made.append(parent)
        if not path.exists():
            path.mkdir()
            path.rmdir()
        with _work_in(home_of(path), path.name) as work:
            (work / "probe").write_bytes(bytes(_PROBE_BYTES))
    except (OSError, ValueError, RuntimeError) as error:  # a null byte; links in a circle
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise OutputError(f"{path}: cannot be written ({error}); give another path") from error
    finally:
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()


def check_apart(output: Path, folders: Collection[Path]) -> None:
    """Refuse to write among pictures: results there would be read as pictures or classes.

    Raises:
        OutputError: `output` lies inside one of the folders, or is one.
    """
    place = output.resolve()
    for folder in folders:
        if place.is_relative_to(folder.resolve()):
            raise OutputError(
                f"{output}: lies inside the pictures in {folder}; give a path beside them"
            )


@contextmanager
def replacing_folder(
    folder: Path,
    *,
    mark: str,
    names: Collection[str] | None = None,
    keep: Path | None = None,
) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well.

    Otherwise nothing is left and `folder` is as it was. Folders cannot be exchanged in one step
    everywhere, so an earlier result is moved aside for the moment of the rename: the next writer
    puts back what a process left that was killed just then.

    Args:
        folder: the place of the result.
        mark: a file that each such result holds.
        names: see `check_replaceable`.
        keep: where an earlier result goes, in place of the one that is kept there.

    Raises:
        OutputError: `folder` or `keep` holds something that has no file called `mark`.
    """
    check_replaceable(folder, mark=mark, names=names)
    # Through links: what they lead to is replaced, and the links stay.
    folder = folder.resolve()
    with _work_in(home_of(folder), folder.name) as work:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        # Again: the block may have taken minutes.
        check_replaceable(folder, mark=mark, names=names)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if keep is not None and (folder / mark).is_file():
            with replacing_folder(keep, mark=mark, names=names) as kept:
                for file in sorted(folder.iterdir()):
                    if file.is_file():
                        link_or_copy(file, kept / file.name)
        _replace(folder, fresh, aside=work / _OLD)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that is about to go a second name, or copy it where the disk knows no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def home_of(path: Path) -> Path:
    """Return the folder in which a result is prepared: one on its own disk, that can be written."""
    # Inside it where it is a disk of its own, as containers mount them, or its parent is closed.
    if path.is_dir() and (path.is_mount() or not os.access(path.parent, os.W_OK)):
        return path
    # Beside it, or its first parent that exists: a rename works within one file system.
    return next(parent for parent in path.parents if parent.exists())


@contextmanager
def _work_in(home: Path, name: str, *, sweep: bool = True) -> Iterator[Path]:
    """Give a hidden folder in `home`, locked until it is removed."""
    if sweep:
        _sweep(home)
    while True:
        work = home / f".{name[:_START_OF_NAME]}-{os.urandom(6).hex()}{_PART}"
        work.mkdir(mode=0o700)
        try:
            lock = _locked(work)
        except BlockingIOError:
            continue  # a sweep came between, which removes it
        except OSError:
            lock = None
        if work.exists():
            break
        _release(lock)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        _release(lock)


@lru_cache(maxsize=64)
def _sweep_once(home: Path) -> None:
    _sweep(home)


def _sweep(home: Path) -> None:
    """Remove what writers that are dead left in a folder; what they had moved aside comes back."""
    try:
        names = [name for name in os.listdir(home) if _IS_PART.fullmatch(name)]  # noqa: PTH208  # Path's keeps an object for each
    except OSError:
        return
    for name in sorted(names):
        work = home / name
        try:
            lock = _locked(work)
        except OSError:
            continue
        if lock is None and not _is_abandoned(work):
            continue
        try:
            # Killed between two renames: what was moved aside is all that there is.
            for entry in sorted((work / _OLD).glob("*")):
                if not os.path.lexists(home / entry.name):
                    entry.rename(home / entry.name)
            shutil.rmtree(work, ignore_errors=True)
        except OSError:
            continue  # it stays, whole, for the next time
        finally:
            _release(lock)


def _locked(work: Path) -> int | None:
    """Return what holds the lock of a folder; None where folders cannot be locked.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it is no folder, or another user's.
    """
    if sys.platform == "win32":
        if work.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), work)
        return None
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # ENOLCK, EOPNOTSUPP; EBADF of NFS, which locks what is open for writing
        os.close(descriptor)
        return None
    return descriptor


def _is_abandoned(work: Path) -> bool:
    """Return whether nothing in a folder was written for long, by the clock of its disk or ours."""
    try:
        newest = max(entry.lstat().st_mtime for entry in (work, *work.rglob("*")))
    except OSError:
        return False  # it is being written, or removed
    return time.time() - newest > _ABANDONED_AFTER


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _replace(folder: Path, fresh: Path, *, aside: Path) -> None:
    aside.mkdir()
    old = aside / folder.name
    try:
        if fresh.is_relative_to(folder):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if folder.exists():
            folder.rename(old)
    except OSError as error:
        if error.errno not in _CANNOT_BE_RENAMED:
            raise
        _fill(folder, fresh, aside)
        return
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _fill(folder: Path, fresh: Path, aside: Path) -> None:
    """Exchange what a folder holds, one by one, where the folder itself cannot be renamed."""
    try:
        for entry in sorted(folder.iterdir()):
            if not _IS_PART.fullmatch(entry.name):
                shutil.move(entry, aside / entry.name, shutil.copyfile)
        for entry in sorted(fresh.iterdir()):
            shutil.move(entry, folder / entry.name, shutil.copyfile)
    except OSError:
        for entry in sorted(aside.iterdir()):
            shutil.move(entry, folder / entry.name, shutil.copyfile)
        raise


def check_place(path: Path, *, mark: str, names: Collection[str] | None = None) -> None:
    """Make sure that a folder, or an archive if the name ends in .zip, may be written at `path`.

    Raises:
        OutputError: something is there that is not an earlier result, which holds the file `mark`.
    """
    if path.suffix.lower() != _SUFFIX:
        check_replaceable(path, mark=mark, names=names)
    elif path.is_dir():
        raise OutputError(f"{path}: is a folder; give another name, or one without .zip")
    elif path.exists() and not _holds(path, mark):
        raise OutputError(f"{path}: is a file that holds no {mark}; give another name")


@contextmanager
def replacing_result(
    path: Path, *, mark: str, names: Collection[str] | None = None
) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, packed if it is .zip.

    Otherwise nothing is left and `path` is as it was.

    Raises:
        OutputError: see `check_place`.
    """
    check_place(path, mark=mark, names=names)
    if path.suffix.lower() != _SUFFIX:
        with replacing_folder(path, mark=mark, names=names) as folder:
            yield folder
        return
    path = path.resolve()  # through a link, as with a folder
    with _work_in(home_of(path), path.name) as work:
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
