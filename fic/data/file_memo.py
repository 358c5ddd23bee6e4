"""Memo of content digests: an unchanged file is read only once.

A file counts as unchanged while path, inode, size and both times stay the same. The time of
modification alone does not do: `mv`, `cp -p`, `rsync -t` and `tar` bring another content under a
path with a time of their choice. The time of change cannot be chosen, and a rename changes it, or
brings another inode.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from ..digests import DIGEST_SIZE, digest_file

log = logging.getLogger(__name__)

# A file written within one tick of its file system's clock can change again and keep its size and
# times. FAT has the coarsest clock in use, 2 s.
_RACY_NS = 2_000_000_000


_BATCH = 1024  # files in one query and one transaction; a kill loses at most these


_LOCK_TIMEOUT = 5.0  # seconds to wait for another process's transaction


_T = TypeVar("_T")


class Digests(NamedTuple):
    """The digest of each file that could be read, and one sentence for each that could not."""

    digests: dict[Path, bytes]
    failures: dict[Path, str]


class _Stamp(NamedTuple):
    """What an unchanged file keeps, and when it last changed in any way."""

    text: bytes
    time_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Stamp":
        # As text: SQLite has no room for the inodes of some file systems.
        return cls(
            b"%d:%d:%d:%d"
            % (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
            max(status.st_mtime_ns, status.st_ctime_ns),
        )


class FileDigests:
    """Digests of files, remembered by path, inode, size, and times of modification and change.

    The memo is a SQLite file. It only saves time: one that is damaged, locked, read-only or
    deleted costs a second reading of the files and nothing else. Processes may share it.

    Args:
        memo: file of the memo, made if it does not exist; None remembers nothing.
    """

    def __init__(self, memo: str | os.PathLike[str] | None) -> None:
        self._memo = None if memo is None else _Memo.open(Path(memo))

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _resolve(self, paths: Sequence[Path], found: Digests, pool: ThreadPoolExecutor) -> None:
        names = list(map(_name, paths))
        known = {} if self._memo is None else self._memo.look_up(names)
        unread: list[tuple[Path, bytes, _Stamp]] = []
        for path, name in zip(paths, names, strict=True):
            try:
                status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat
            except (OSError, ValueError) as error:
                found.failures[path] = _sentence(path, error)
                continue
            stamp = _Stamp.of(status)
            remembered = known.get(name)
            if remembered is not None and remembered[0] == stamp.text:
                found.digests[path] = remembered[1]
            else:
                unread.append((path, name, stamp))
        fresh = []
        # The stamps were taken before reading: a file that changes meanwhile has a new one.
        racy = time.time_ns() - _RACY_NS
        for (path, name, stamp), digest in zip(
            unread, pool.map(_try_digest, (path for path, _, _ in unread)), strict=True
        ):
            if isinstance(digest, bytes):
                found.digests[path] = digest
                if stamp.time_ns < racy:
                    fresh.append((name, stamp.text, digest))
            else:
                found.failures[path] = _sentence(path, digest)
        if fresh and self._memo is not None:
            self._memo.remember(fresh)


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

    def look_up(self, names: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        if self._connection is None:
            return {}
        marks = ",".join("?" * len(names))
        query = f"SELECT path, stamp, digest FROM file_digests WHERE path IN ({marks})"
        try:
            rows = self._connection.execute(query, names).fetchall()
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return {}
        return {
            path: (stamp, digest)
            for path, stamp, digest in rows
            if isinstance(digest, bytes) and len(digest) == DIGEST_SIZE
        }

    def remember(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        self._change("INSERT OR REPLACE INTO file_digests VALUES (?, ?, ?)", rows)

    def forget(self, names: Sequence[bytes]) -> None:
        self._change("DELETE FROM file_digests WHERE path = ?", [(name,) for name in names])

    def forget_all(self) -> None:
        self._change("DELETE FROM file_digests", [()])

    def _change(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> None:
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
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
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "file_digests" not in tables:
            # The table of fic 0.1 knew files by size and time of modification alone.
            connection.execute("DROP TABLE IF EXISTS files")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS file_digests (path BLOB PRIMARY KEY, stamp BLOB, "
                "digest BLOB) WITHOUT ROWID"
            )
        connection.execute("SELECT path, stamp, digest FROM file_digests LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _name(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100  # a quarter of Path's time


def _try_digest(path: Path) -> bytes | OSError:
    try:
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
