"""What may lie under the name of the memo: it is never written to, removed or waited for."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fic.data.file_memo import FileDigests
from fic.digests import digest_bytes

ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t)"
TABLE = "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB)"


def database(*statements: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return make


def text(path: Path) -> None:
    path.write_text("precious")


def cut(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_a_file(path: Path) -> None:
    (path.parent / "thesis").write_bytes(b"")
    path.symlink_to(path.parent / "thesis")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "made")


FOREIGN: dict[str, Callable[[Path], None]] = {
    "somebody's database": database("CREATE TABLE songs (name TEXT)"),
    "a database with one table more": database(
        f"{TABLE} WITHOUT ROWID", "CREATE TABLE songs (name TEXT)"
    ),
    "an endless view": database(
        f"CREATE VIEW files AS {ENDLESS} "
        "SELECT x AS path, x AS size, x AS mtime_ns, x AS digest FROM t WHERE x < 0"
    ),
    "an endless trigger": database(
        f"{TABLE} WITHOUT ROWID",
        f"CREATE TRIGGER t AFTER INSERT ON files BEGIN SELECT ({ENDLESS} "
        "SELECT max(x) FROM t); END",
    ),
    "a table that computes": database(
        f"{TABLE[:-1]}, other AS (hex(zeroblob(size))) STORED) WITHOUT ROWID"
    ),
    **{made.__name__: made for made in (text, cut, a_pipe, a_folder)},
    **{made.__name__: made for made in (a_link_to_a_file, a_link_to_nothing)},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_the_memo_stays_as_it_is_and_another_is_made(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    memo, picture = tmp_path / "files.sqlite", tmp_path / "a.jpg"
    FOREIGN[kind](memo)
    picture.write_bytes(b"picture")
    os.utime(picture, (1, 1))
    before = (memo.lstat(), memo.read_bytes() if memo.is_file() else None)
    with caplog.at_level(logging.WARNING, "fic"):
        for _ in range(2):
            with FileDigests(memo) as digests:
                assert digests.digests([picture]).digests == {picture: digest_bytes(b"picture")}
    after = memo.lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before[0].st_ino, before[0].st_mtime_ns)
    assert before[1] is None or memo.read_bytes() == before[1]
    assert not (tmp_path / "made").exists()
    assert "not a memo of file digests" in caplog.text
    assert (tmp_path / "files-fic.sqlite").is_file()


def test_where_both_names_are_taken_there_is_no_memo(tmp_path: Path) -> None:
    for name in ("files.sqlite", "files-fic.sqlite"):
        (tmp_path / name).write_text("precious")
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with FileDigests(tmp_path / "files.sqlite") as digests:
        assert len(digests.digests([tmp_path / "a.jpg"]).digests) == 1
    assert {path.read_text() for path in tmp_path.glob("*.sqlite")} == {"precious"}
