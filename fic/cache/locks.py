"""Locks of cache folders and of their temporary files.

Whoever reads or fills a folder holds a shared lock on its file `lock`; `compact` and `prune` take
it exclusively. Others may write here too, so no link is followed and nothing but regular files is
opened. A writer locks its temporary file, so one that can be locked has no writer. The
kernel drops a dead process's locks. Where such locks do not exist (Windows, some network file
systems) users of a folder do not see each other and temporaries are judged by their age.
"""

import errno
import logging
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from ..errors import CacheError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

_LOCK = "lock"
_TEMPORARY = "tmp-"
_ABANDONED_AFTER = 3600.0  # seconds; only where files cannot be locked


class SharedLock:
    """Keeps a cache folder from being compacted or pruned, until `release`.

    Makes the folder if there is none, and marks it as used now (the time of modification of its
    lock file). Waits, with a warning, while the folder is being compacted. A folder that is only
    readable can be used as well, if it exists.

    Raises:
        CacheError: the folder can be neither made nor used.
    """

    def __init__(self, folder: Path) -> None:
        while True:
            _make(folder)
            descriptor = _open_lock(folder)
            if descriptor is not None and _try_lock(descriptor, exclusive=False) is False:
                if _is_held_by_reader(descriptor):
                    log.warning(
                        "%s: its lock is held by one who may only read; not waiting", folder
                    )
                else:
                    log.warning("%s: waiting, another process compacts or prunes it", folder)
                    _wait_shared(descriptor)
            if descriptor is None or _is_still(descriptor, folder / _LOCK):
                break
            os.close(descriptor)  # the folder was pruned while we waited
        self._descriptor = descriptor
        if descriptor is not None:
            _mark_used(folder)

    def release(self) -> None:
        """Let others compact or prune the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.release()


@contextmanager
def hold_exclusively(folder: Path) -> Iterator[None]:
    """Keep every other process out of a cache folder.

    Raises:
        CacheError: the folder is in use, or cannot be written.
    """
    try:
        descriptor = _open_plain(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CacheError(
            f"{folder}: cannot be changed ({error.strerror}); ask whoever owns this cache"
        ) from error
    try:
        if _set_range_lock(descriptor, exclusive=True) is False or (
            _try_lock(descriptor, exclusive=True) is False
        ):
            raise CacheError(
                f"{folder}: in use by another process; try again when its training or extraction "
                "has ended"
            )
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Keep every other process out of a cache folder if none is in it now, and say whether.

    Never waits and never raises: where locks do not exist, nobody is known to be alone.
    """
    try:
        descriptor = _open_plain(folder / _LOCK, os.O_RDWR)
    except OSError as error:
        log.debug("%s: not locked (%s)", folder, error.strerror)
        yield False
        return
    try:
        yield (
            _set_range_lock(descriptor, exclusive=True) is not False
            and _try_lock(descriptor, exclusive=True) is True
        )
    finally:
        os.close(descriptor)


def last_used(folder: Path) -> float:
    """Return when a cache folder was last opened, in seconds since 1970."""
    try:
        return (folder / _LOCK).lstat().st_mtime
    except OSError:
        return folder.stat().st_mtime


@contextmanager
def new_temporary(folder: Path) -> Iterator[FileIO]:
    """Make a temporary file, locked while it is open for writing; its path is its `name`.

    Whoever gets it renames it when it is whole; otherwise it is gone afterwards.
    """
    while True:
        path = folder / f"{_TEMPORARY}{os.urandom(8).hex()}"
        file = FileIO(path, "x")
        # A sweep may have locked and removed it before we could lock it.
        if _try_lock(file.fileno(), exclusive=True) is not False and _is_still(file.fileno(), path):
            break
        file.close()
        path.unlink(missing_ok=True)
    try:
        yield file
    finally:
        file.close()
        path.unlink(missing_ok=True)


def publish(file: FileIO, data: bytes | memoryview, path: Path) -> None:
    """Write a temporary file, and give it its name once its bytes are on the disk.

    Raises:
        OSError: it cannot be written, e.g. no space is left.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())
    if sys.platform == "win32":  # where an open file cannot be renamed
        file.close()
    Path(os.fsdecode(file.name)).replace(path)


def abandoned_temporaries(folder: Path) -> list[Path]:
    """Return the temporary files that no process is writing."""
    return [path for path in sorted(folder.glob(f"{_TEMPORARY}*")) if _is_abandoned(path)]


def remove_abandoned_temporaries(folder: Path) -> list[Path]:
    """Remove the temporary files that no process is writing, and return them."""
    removed = []
    for path in sorted(folder.glob(f"{_TEMPORARY}*")):
        try:
            if _is_abandoned(path, remove=True):
                removed.append(path)
        except OSError as error:  # a read-only cache can be used with its debris
            log.debug("%s: cannot be removed (%s)", path, error)
    return removed


def make_folder(folder: Path) -> None:
    """Make a folder within a cache, unless it is there.

    Raises:
        OSError: it cannot be made, or is a link, which may lead to the user's other things.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed within a cache", folder)


def _open_plain(path: Path, flags: int) -> int:
    """Open a regular file in a folder that others may write, without waiting.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe or a device.
    """
    plain = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | plain, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def _is_abandoned(path: Path, *, remove: bool = False) -> bool:
    try:
        descriptor = _open_plain(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        locked = _try_lock(descriptor, exclusive=True)
        if locked is None:
            locked = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_AFTER
        if locked and remove:
            # Under the lock, so that a writer that has just made it sees that it is gone.
            path.unlink(missing_ok=True)
        return locked
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise CacheError(
            f"{folder}: cannot be made ({error.strerror}); give --bottleneck-dir a folder that "
            "you can write to"
        ) from error


def _open_lock(folder: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return _open_plain(folder / _LOCK, flags)
        except OSError as error:
            # A link or a pipe, which somebody has put there; the rest is a cache to be read only.
            planted = error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO)
            (log.warning if planted else log.debug)(
                "%s: not locked (%s)", folder / _LOCK, error.strerror
            )
    return None


def _try_lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Return whether the lock was taken, or None where locks do not exist."""
    if sys.platform == "win32":
        return None
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        # EBADF: NFS locks only what is open for writing.
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_held_by_reader(descriptor: int) -> bool:
    """Return whether the exclusive lock is not that of a fic which may write the folder.

    `flock` gives it to whoever can open the file for reading, and he could stop all others. Linux
    gives the exclusive lock of a range only to who has opened the file for writing, so compacting
    and pruning take that one first. Taken here as a shared lock, it keeps them out like `flock`.
    """
    return _set_range_lock(descriptor, exclusive=False) is True


def _set_range_lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Return whether the lock of a file's range was taken, None where there is no such lock."""
    if sys.platform != "linux" or not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    # struct flock: type, whence, start and length, both 0 for the whole file, and no process.
    whole = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _wait_shared(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _is_still(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one that has this name now."""
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def _mark_used(folder: Path) -> None:
    try:
        os.utime(folder / _LOCK, follow_symlinks=False)
    except OSError as error:
        log.debug("%s: cannot be marked as used (%s)", folder, error)
