"""The SQLite file of a memo, opened only where it is fic's own.

It lies in a folder that others may write, or where the user keeps files of his own under the same
name: nothing is taken for a memo, and so nothing is ever written to or removed, that does not have
exactly the table that fic makes.
"""

import errno
import logging
import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_MAGIC = b"SQLite format 3\0"
# Far more than looking up one batch takes; a query that takes more has no end.
_MOST_STEPS = 10_000_000
_MOST_VALUE_BYTES = 1 << 20  # of a path


@dataclass(frozen=True)
class Table:
    """A table whose first column is its key, of bytes.

    Attributes:
        name: of the table.
        columns: names of the columns with their types, the key first.
        holds: what it remembers, in the words of a log.
        former: definition of the table of an earlier release, which it takes the place of.
    """

    name: str
    columns: tuple[str, ...]
    holds: str
    former: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns without their types."""
        return [column.split()[0] for column in self.columns]

    @property
    def definition(self) -> str:
        """What follows `CREATE TABLE`."""
        key, *others = self.columns
        return f"{self.name} ({', '.join([f'{key} PRIMARY KEY', *others])}) WITHOUT ROWID"


class _ForeignFileError(Exception):
    """A file is not fic's memo; the text says why."""


def open_memo(path: Path, table: Table, *, timeout: float) -> tuple[Path, sqlite3.Connection]:
    """Open the memo, made if it does not exist, or one beside it where the name is taken.

    Args:
        path: the file.
        table: the only one that it has.
        timeout: seconds to wait for another process's transaction.

    Returns:
        The file that is the memo, and the connection.

    Raises:
        sqlite3.OperationalError: there can be none.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
    for file in (path, path.with_name(f"{path.stem}-fic{path.suffix}")):
        try:
            return file, _open(file, table, timeout)
        except _ForeignFileError as error:
            log.warning("%s: not a memo of %s (%s); left as it is", file, table.holds, error)
    raise sqlite3.OperationalError("its names are taken by other files")


def _open(path: Path, table: Table, timeout: float) -> sqlite3.Connection:
    descriptor = _open_plain(path)
    try:
        head = os.read(descriptor, len(_MAGIC))
        if head not in (b"", _MAGIC):
            raise _ForeignFileError("it is no SQLite file")
        # `rw` makes no file: it is there, and has just been looked at.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            timeout=timeout,
            check_same_thread=False,
            uri=True,
        )
        try:
            if not os.path.samestat(os.fstat(descriptor), path.lstat()):
                raise _ForeignFileError("it changes while it is opened")
            _check_schema(connection, table)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
    finally:
        os.close(descriptor)
    return connection


def _open_plain(path: Path) -> int:
    plain = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | plain, 0o666)
        except PermissionError:
            descriptor = os.open(path, os.O_RDONLY | plain)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _ForeignFileError("it is no regular file") from error
        raise sqlite3.OperationalError(str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _ForeignFileError("it is no regular file")
    return descriptor


def _check_schema(connection: sqlite3.Connection, table: Table) -> None:
    """Make the table in an empty file; refuse a file that holds anything else."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE_BYTES)
    connection.set_progress_handler(lambda: 1, _MOST_STEPS)
    try:
        # No view or trigger of somebody's is run by naming a table.
        connection.execute("PRAGMA trusted_schema = OFF")
        query = "SELECT type, name, sql FROM sqlite_master"
        found = connection.execute(f"{query} LIMIT 2").fetchall()
        former = table.former and [_schema_of(table.former)]
        if not found or found == former:
            with connection:
                if found:
                    connection.execute(f"DROP TABLE {found[0][1]}")
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table.definition}")
            found = connection.execute(f"{query} LIMIT 2").fetchall()
    except sqlite3.OperationalError:  # locked, or read-only
        raise
    except sqlite3.DatabaseError as error:
        raise _ForeignFileError(str(error)) from error
    if found != [_schema_of(table.definition)]:
        raise _ForeignFileError("it has other tables")


def _schema_of(definition: str) -> tuple[str, str, str]:
    return "table", definition.partition(" ")[0], f"CREATE TABLE {definition}"
