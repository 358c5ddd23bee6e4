"""Memo of content digests: an unchanged file is read only once.

A file counts as unchanged while path, inode, size and both times stay the same. The time of
modification alone does not do: `mv`, `cp -p`, `rsync -t` and `tar` bring another content under a
path with a time of their choice. The time of change cannot be chosen, and a rename changes it, or
brings another inode.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..digests import DIGEST_SIZE, digest_bytes, digest_file
from .memo import Memo, Table, batches
from .remote import RemotePath, local

log = logging.getLogger(__name__)

# A file written within one tick of its file system's clock can change again and keep its size and
# times. FAT has the coarsest clock in use, 2 s.
_RACY_NS = 2_000_000_000

# Paths are bytes: a name that is not UTF-8 is a name all the same.
_FILES = Table(
    "file_digests",
    ("path BLOB", "stamp BLOB", "digest BLOB"),
    "file digests",
    # Of fic 0.1, which knew files by size and time of modification alone: not believed any more.
    former="files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB) "
    "WITHOUT ROWID",
)


class Digests(NamedTuple):
    """The digest of each file that could be read, and one sentence for each that could not."""

    digests: dict[Path, bytes]
    failures: dict[Path, str]


class Identity(NamedTuple):
    """What the memo knows an unchanged file by.

    Attributes:
        name: absolute path; of a URL its text and a digest of it whole.
        stamp: what an unchanged file keeps.
        is_stable: whether no other content can have this stamp any more.
    """

    name: bytes
    stamp: bytes
    is_stable: bool


class LookedUp(NamedTuple):
    """Digests that the memo knows, sentences for files that are not there, and those to read."""

    digests: dict[Path, bytes]
    failures: dict[Path, str]
    unread: dict[Path, Identity]


class FileDigests:
    """Digests of files, remembered by path, inode, size, and times of modification and change.

    The memo is a SQLite file. It only saves time: one that is damaged, locked, read-only or
    deleted costs a second reading of the files and nothing else. Processes may share it.

    Args:
        memo: file of the memo, made if it does not exist; None remembers nothing.
    """

    def __init__(self, memo: str | os.PathLike[str] | None) -> None:
        file = memo if isinstance(memo, Path) or memo is None else Path(memo)
        self._memo = None if file is None else Memo.open(local(file), _FILES)

    def digests(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        progress: Callable[[int], object] | None = None,
        workers: int | None = None,
    ) -> Digests:
        """Return the digest of each file, reading only those that the memo does not know.

        Args:
            progress: called with the number of files that were just resolved.
            workers: threads that read; by default twice the processors, since reading waits.
        """
        found = Digests({}, {})
        # The caller's own objects where they are paths: a copy of each is memory that counts.
        unique = dict.fromkeys(path if isinstance(path, Path) else Path(path) for path in paths)
        threads = workers or 2 * (os.cpu_count() or 1)
        with ThreadPoolExecutor(threads, thread_name_prefix="digest") as pool:
            for batch in batches(unique):
                self._resolve(batch, found, pool)
                if progress is not None:
                    progress(len(batch))
        return found

    def forget(self, paths: Iterable[Path] | None = None) -> None:
        """Forget the digests of these files, or all: they are read anew when asked for again."""
        if self._memo is None:
            return
        if paths is None:
            self._memo.forget_all()
        else:
            self._memo.forget([_name(path) for path in paths])

    def close(self) -> None:
        """Close the memo's file."""
        if self._memo is not None:
            self._memo.close()

    def __enter__(self) -> "FileDigests":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def look_up(self, paths: Sequence[Path], pool: ThreadPoolExecutor) -> LookedUp:
        """Tell which of some files are known as they are now, and which have to be read."""
        found = LookedUp({}, {}, {})
        asks = any(isinstance(path, RemotePath) and not path.is_listed for path in paths)
        identities = dict(zip(paths, (pool.map if asks else map)(_identity, paths), strict=True))
        names = [each.name for each in identities.values() if isinstance(each, Identity)]
        known = {} if self._memo is None else self._memo.look_up(names)
        for path, identity in identities.items():
            if not isinstance(identity, Identity):
                found.failures[path] = _sentence(path, identity)
                continue
            remembered, digest = known.get(identity.name, (None, None))
            if remembered == identity.stamp and _is_digest(digest):
                found.digests[path] = digest
            else:
                found.unread[path] = identity
        return found

    def remember(self, digests: Mapping[Path, bytes], identities: Mapping[Path, Identity]) -> None:
        """Remember the digests of files that were read after their identities were taken."""
        fresh = [
            (identity.name, identity.stamp, digest)
            for path, digest in digests.items()
            # Taken before reading: a file that changes meanwhile has another identity.
            if (identity := identities[path]).is_stable
        ]
        if fresh and self._memo is not None:
            self._memo.remember(fresh)

    def _resolve(self, paths: Sequence[Path], found: Digests, pool: ThreadPoolExecutor) -> None:
        known = self.look_up(paths, pool)
        found.digests.update(known.digests)
        found.failures.update(known.failures)
        fresh: dict[Path, bytes] = {}
        for path, digest in zip(known.unread, pool.map(_try_digest, known.unread), strict=True):
            if isinstance(digest, bytes):
                fresh[path] = digest
            else:
                found.failures[path] = _sentence(path, digest)
        found.digests.update(fresh)
        self.remember(fresh, known.unread)


def _is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_SIZE


def _name(path: Path) -> bytes:
    if isinstance(path, RemotePath):
        return path.memo_name
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100  # a quarter of Path's time


def _identity(path: Path) -> Identity | OSError | ValueError:
    if isinstance(path, RemotePath):
        return _remote_identity(path)
    try:
        status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat
    except (OSError, ValueError) as error:
        return error
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    # As text: SQLite has no room for the inodes of some file systems.
    times = b"%d:%d:%d" % (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    stamp = b"%d:%b" % (status.st_size, times)
    return Identity(_name(path), stamp, changed < time.time_ns() - _RACY_NS)


def _remote_identity(path: RemotePath) -> Identity:
    try:
        version = path.version
    except OSError as error:
        # Some servers let a file be read and tell nothing of it: whether that works, reading shows.
        log.debug("%s: its ETag is not known (%s)", path, error.strerror)
        return Identity(path.memo_name, b"", is_stable=False)
    stamp = f"{version.size}:{version.mark}".encode()
    return Identity(path.memo_name, stamp, is_stable=bool(version.mark))


def _try_digest(path: Path) -> bytes | OSError:
    try:
        if isinstance(path, RemotePath):
            return digest_bytes(path.read_bytes())
        return digest_file(path)
    except OSError as error:
        return error


def _sentence(path: Path, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path}: cannot be read ({reason}); check the file and its permissions"
