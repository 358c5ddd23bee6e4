"""Memo of content digests: an unchanged file is read only once.

A file counts as unchanged while path, inode, size and both times stay the same. The time of
modification alone does not do: `mv`, `cp -p`, `rsync -t` and `tar` bring another content under a
path with a time of their choice. The time of change cannot be chosen, and a rename changes it, or
brings another inode.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ..digests import DIGEST_SIZE, digest_file
from .memo import Memo, Table, batches

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
        self._memo = None if memo is None else Memo.open(Path(memo), _FILES)

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
            remembered, digest = known.get(name, (None, None))
            if remembered == stamp.text and _is_digest(digest):
                found.digests[path] = digest
            else:
                unread.append((path, name, stamp))
        fresh = []
        # The stamps were taken before reading: a file that changes meanwhile has a new one.
        racy = time.time_ns() - _RACY_NS
        answers = pool.map(_try_digest, (path for path, _, _ in unread))
        for (path, name, stamp), digest in zip(unread, answers, strict=True):
            if isinstance(digest, bytes):
                found.digests[path] = digest
                if stamp.time_ns < racy:
                    fresh.append((name, stamp.text, digest))
            else:
                found.failures[path] = _sentence(path, digest)
        if fresh and self._memo is not None:
            self._memo.remember(fresh)


def _is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_SIZE


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
