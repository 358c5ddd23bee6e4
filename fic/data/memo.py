"""A table on disk that only saves time: damaged, locked, read-only or deleted, it is made again."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .memo_file import Table as Table
from .memo_file import open_memo

log = logging.getLogger(__name__)

BATCH = 1024
"""Rows in one query and one transaction; a kill loses at most these."""

_LOCK_TIMEOUT = 5.0  # seconds to wait for another process's transaction

_T = TypeVar("_T")


class Memo:
    """The SQLite file; whatever goes wrong with it switches it off with a line in the log."""

    def __init__(self, path: Path, table: Table, connection: sqlite3.Connection) -> None:
        self._path, self._table = path, table
        self._connection: sqlite3.Connection | None = connection

    @classmethod
    def open(cls, path: Path, table: Table) -> "Memo | None":
        """Open the file, or one beside it where it is not fic's; None where that cannot be done."""
        try:
            file, connection = open_memo(path, table, timeout=_LOCK_TIMEOUT)
        except sqlite3.Error as error:
            log.info("%s: no memo of %s (%s); reading every file", path, table.holds, error)
            return None
        return cls(file, table, connection)

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
        """Return the other columns of the rows with these keys, at most `BATCH`."""
        if self._connection is None:
            return {}
        marks = ",".join("?" * len(keys))
        names = self._table.names
        query = f"SELECT {', '.join(names)} FROM {self._table.name} WHERE {names[0]} IN ({marks})"
        try:
            rows = self._connection.execute(query, keys).fetchall()
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return {}
        return {row[0]: row[1:] for row in rows}

    def remember(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, in place of those with the same keys."""
        marks = ", ".join("?" * len(self._table.columns))
        self._change(f"INSERT OR REPLACE INTO {self._table.name} VALUES ({marks})", rows)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Remove the rows with these keys."""
        statement = f"DELETE FROM {self._table.name} WHERE {self._table.names[0]} = ?"
        self._change(statement, [(key,) for key in keys])

    def forget_all(self) -> None:
        """Remove all rows."""
        self._change(f"DELETE FROM {self._table.name}", [()])

    def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        if isinstance(error, sqlite3.OperationalError):  # locked, read-only, disk full
            log.info("%s: memo of %s not used any more (%s)", self._path, self._table.holds, error)
            return
        log.warning("%s: damaged memo of %s (%s); removed", self._path, self._table.holds, error)
        try:
            self._path.unlink()
        except OSError as second:
            log.info("%s: cannot be removed (%s)", self._path, second)


def batches(items: Iterable[_T], size: int = BATCH) -> Iterator[list[_T]]:
    """Yield lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
