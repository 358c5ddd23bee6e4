"""Digests of files and the memo that remembers them."""

import hashlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from fic.data.file_memo import FileDigests
from fic.digests import digest_bytes, digest_file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return three files that were written an hour ago."""
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        path.write_bytes(path.name.encode())
        age(path)
    return paths


def age(path: Path, seconds: float = 3600) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def keep_size_and_time(path: Path, content: bytes) -> None:
    """Change a file behind the memo's back."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def digest_all(memo: Path | None, paths: list[Path]) -> dict[Path, bytes]:
    with FileDigests(memo) as digests:
        return digests.digests(paths).digests


def test_a_digest_is_sixteen_bytes_of_blake2b() -> None:
    assert digest_bytes(b"x") == hashlib.blake2b(b"x", digest_size=16).digest()


def test_a_file_larger_than_a_block_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) * 2 + 17)
    (tmp_path / "large").write_bytes(content)
    assert digest_file(tmp_path / "large") == digest_bytes(content)


@pytest.mark.parametrize("memo", ["memo.sqlite", None])
def test_digests_are_those_of_the_contents(
    tmp_path: Path, files: list[Path], memo: str | None
) -> None:
    found = digest_all(tmp_path / memo if memo else None, files)
    assert found == {path: digest_bytes(path.read_bytes()) for path in files}


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, files: list[Path]) -> None:
    before = digest_all(tmp_path / "memo", files)
    keep_size_and_time(files[0], b"A.JPG")
    assert digest_all(tmp_path / "memo", files) == before


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_read_again(tmp_path: Path, files: list[Path], change: str) -> None:
    digest_all(tmp_path / "memo", files)
    content = b"longer than before" if change == "size" else b"A.JPG"
    files[0].write_bytes(content)
    age(files[0], 3600 if change == "size" else 1800)
    assert digest_all(tmp_path / "memo", files)[files[0]] == digest_bytes(content)


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, files: list[Path]) -> None:
    age(files[0], 0)
    digest_all(tmp_path / "memo", files)
    keep_size_and_time(files[0], b"A.JPG")
    assert digest_all(tmp_path / "memo", files)[files[0]] == digest_bytes(b"A.JPG")


def test_a_moved_file_is_read_under_its_new_path(tmp_path: Path, files: list[Path]) -> None:
    before = digest_all(tmp_path / "memo", files)
    moved = files[0].rename(tmp_path / "moved.jpg")
    assert digest_all(tmp_path / "memo", [moved])[moved] == before[files[0]]


def test_deleting_the_memo_changes_nothing(tmp_path: Path, files: list[Path]) -> None:
    before = digest_all(tmp_path / "memo", files)
    (tmp_path / "memo").unlink()
    assert digest_all(tmp_path / "memo", files) == before


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_memo_is_replaced(tmp_path: Path, files: list[Path], content: bytes) -> None:
    memo = tmp_path / "memo"
    memo.write_bytes(content)
    before = digest_all(memo, files)
    assert before == digest_all(None, files)
    keep_size_and_time(files[0], b"A.JPG")
    assert digest_all(memo, files) == before


@pytest.mark.parametrize("offset", range(4096, 20480, 1024))
def test_a_memo_damaged_inside_gives_digests_all_the_same(tmp_path: Path, offset: int) -> None:
    paths = [tmp_path / f"{number:04}.jpg" for number in range(300)]
    for path in paths:
        path.write_bytes(path.name.encode())
        age(path)
    memo = tmp_path / "memo"
    right = digest_all(memo, paths)
    raw = bytearray(memo.read_bytes())
    raw[offset : offset + 12] = b"\x00" * 12
    memo.write_bytes(raw)
    with FileDigests(memo) as digests:
        found = digests.digests(paths)
    assert found.digests.keys() == right.keys()
    assert not found.failures


def test_a_memo_that_cannot_be_made_is_done_without(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert digest_all(tmp_path / "file" / "memo", files) == digest_all(None, files)


def test_a_locked_memo_is_done_without(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest_all(tmp_path / "memo", files[:1])
    monkeypatch.setattr("fic.data.memo._LOCK_TIMEOUT", 0.05)
    holder = sqlite3.connect(tmp_path / "memo")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert digest_all(tmp_path / "memo", files) == digest_all(None, files)
    finally:
        holder.close()


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_read(
    tmp_path: Path, files: list[Path]
) -> None:
    with FileDigests(tmp_path / "memo") as digests:
        found = digests.digests([*files, tmp_path / "gone.jpg", tmp_path])
    assert set(found.digests) == set(files)
    assert set(found.failures) == {tmp_path / "gone.jpg", tmp_path}
    assert (
        "gone.jpg: cannot be read (No such file or directory)"
        in (found.failures[tmp_path / "gone.jpg"])
    )


def test_a_name_that_is_not_unicode_is_remembered(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(b"before")
    age(path)
    before = digest_all(tmp_path / "memo", [path])
    keep_size_and_time(path, b"AFTER.")
    assert digest_all(tmp_path / "memo", [path]) == before


def test_relative_and_absolute_paths_are_one_file(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_all(tmp_path / "memo", files)
    keep_size_and_time(files[0], b"A.JPG")
    monkeypatch.chdir(tmp_path)
    assert digest_all(tmp_path / "memo", [Path("a.jpg")])[Path("a.jpg")] == before[files[0]]


def test_progress_adds_up_to_the_number_of_files(files: list[Path]) -> None:
    counts: list[int] = []
    with FileDigests(None) as digests:
        digests.digests([*files, Path("gone")], progress=counts.append)
    assert sum(counts) == 4


def test_two_users_of_one_memo_are_both_right(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(3000)]
    for path in paths:
        path.write_bytes(path.name.encode())
        age(path)
    right = {path: digest_bytes(path.name.encode()) for path in paths}
    results: list[dict[Path, bytes]] = []
    threads = [
        threading.Thread(target=lambda: results.append(digest_all(tmp_path / "memo", paths)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [right] * 4
    shutil.rmtree(folder)
