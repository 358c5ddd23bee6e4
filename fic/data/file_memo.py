"""Memo of content digests: an unchanged file is read only once."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from ..digests import DIGEST_SIZE, digest_bytes, digest_file
from .remote import RemotePath, local

log = logging.getLogger(__name__)

# A file written within one tick of its file system's clock can change again and keep its size and
# time. FAT has the coarsest clock in use, 2 s.
_RACY_NS = 2_000_000_000


_BATCH = 1024  # files in one query and one transaction; a kill loses at most these


_LOCK_TIMEOUT = 5.0  # seconds to wait for another process's transaction


_T = TypeVar("_T")


class Digests(NamedTuple):
    """The digest of each file that could be read, and one sentence for each that could not."""

    digests: dict[Path, bytes]
    failures: dict[Path, str]


class Identity(NamedTuple):
    """What the memo knows an unchanged file by.

    Attributes:
        name: absolute path, or that of a URL.
        size: bytes.
        mark: time of modification in nanoseconds; of a URL a number that stands for its ETag.
        is_stable: whether no other content can get this size and mark any more.
    """

    name: bytes
    size: int
    mark: int
    is_stable: bool


class LookedUp(NamedTuple):
    """Digests that the memo knows, sentences for files that are not there, and those to read."""

    digests: dict[Path, bytes]
    failures: dict[Path, str]
    unread: dict[Path, Identity]


class FileDigests:
    """Digests of files, remembered by path, size and time of modification.

    The memo is a SQLite file. It only saves time: one that is damaged, locked, read-only or
    deleted costs a second reading of the files and nothing else. Processes may share it.

    Args:
        memo: file of the memo, made if it does not exist; None remembers nothing.
    """

    def __init__(self, memo: str | os.PathLike[str] | None) -> None:
        self._memo = (
            None
            if memo is None
            else _Memo.open(local(memo if isinstance(memo, Path) else Path(memo)))
        )

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
            for batch in _batches(unique, _BATCH):
                self._resolve(batch, found, pool)
                if progress is not None:
                    progress(len(batch))
        return found

    def close(self) -> None:
        """Close the memo's file."""
        if self._memo is not None:
            self._memo.close()

    def __enter__(self) -> "FileDigests":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def look_up(self, paths: Sequence[Path], pool: ThreadPoolExecutor) -> "LookedUp":
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
            remembered = known.get(identity.name)
            if remembered is not None and remembered[:2] == (identity.size, identity.mark):
                found.digests[path] = remembered[2]
            else:
                found.unread[path] = identity
        return found

    def remember(self, digests: Mapping[Path, bytes], identities: Mapping[Path, Identity]) -> None:
        """Remember the digests of files that were read after their identities were taken."""
        if self._memo is None:
            return
        fresh = [
            (identity.name, identity.size, identity.mark, digest)
            for path, digest in digests.items()
            # Taken before reading: a file that changes meanwhile has another identity.
            if (identity := identities[path]).is_stable
        ]
        if fresh:
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


class _Memo:
    """The SQLite file; whatever goes wrong with it switches it off with a line in the log."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = connection

    @classmethod
    def open(cls, path: Path) -> "_Memo | None":
        try:
            return cls(path, _connect(path))
        except sqlite3.OperationalError as error:
            log.info("%s: no memo of file digests (%s); reading every file", path, error)
        except (OSError, sqlite3.DatabaseError) as error:
            log.warning("%s: damaged memo of file digests (%s); starting anew", path, error)
            try:
                path.unlink()
                return cls(path, _connect(path))
            except (OSError, sqlite3.DatabaseError) as second:
                log.info("%s: no memo of file digests (%s); reading every file", path, second)
        return None

    def look_up(self, names: Sequence[bytes]) -> dict[bytes, tuple[int, int, bytes]]:
        if self._connection is None:
            return {}
        marks = ",".join("?" * len(names))
        query = f"SELECT path, size, mtime_ns, digest FROM files WHERE path IN ({marks})"
        try:
            rows = self._connection.execute(query, names).fetchall()
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return {}
        return {
            path: (size, mtime_ns, digest)
            for path, size, mtime_ns, digest in rows
            if isinstance(digest, bytes) and len(digest) == DIGEST_SIZE
        }

    def remember(self, rows: Sequence[tuple[bytes, int, int, bytes]]) -> None:
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows
                )
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        if isinstance(error, sqlite3.OperationalError):  # locked, read-only, disk full
            log.info("%s: memo of file digests not used any more (%s)", self._path, error)
            return
        log.warning("%s: damaged memo of file digests (%s); removed", self._path, error)
        try:
            self._path.unlink()
        except OSError as second:
            log.info("%s: cannot be removed (%s)", self._path, second)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
    connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, check_same_thread=False)
    try:
        # Paths are bytes: a name that is not UTF-8 is a name all the same.
        connection.execute(
            "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, "
            "mtime_ns INTEGER, digest BLOB) WITHOUT ROWID"
        )
        connection.execute("SELECT path, size, mtime_ns, digest FROM files LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> Identity | OSError | ValueError:
    if isinstance(path, RemotePath):
        return _remote_identity(path)
    try:
        status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat
    except (OSError, ValueError) as error:
        return error
    name = os.fsencode(os.path.abspath(path))  # noqa: PTH100  # 4x Path's
    stable = status.st_mtime_ns < time.time_ns() - _RACY_NS
    return Identity(name, status.st_size, status.st_mtime_ns, stable)


def _remote_identity(path: RemotePath) -> Identity:
    try:
        version = path.version
    except OSError as error:
        # Some servers let a file be read and tell nothing of it: whether that works, reading shows.
        log.debug("%s: its ETag is not known (%s)", path, error.strerror)
        return Identity(path.memo_name, 0, 0, is_stable=False)
    # 63 bits, as SQLite has them.
    mark = int.from_bytes(digest_bytes(version.mark.encode())[:8], "big") >> 1
    return Identity(path.memo_name, version.size, mark, is_stable=bool(version.mark))


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


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
