"""Digests of files and the memo that remembers them."""

import hashlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fic.data import file_memo
from fic.data.file_memo import FileDigests
from fic.digests import digest_bytes, digest_file

TICK = 0.02  # seconds, longer than one of the file system's clock


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return three files."""
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was just written count as written long ago: nobody can turn the time of change."""
    monkeypatch.setattr(file_memo, "_RACY_NS", -(10**12))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files that are read from now on."""
    found: list[Path] = []

    def read(path: Path) -> bytes:
        found.append(path)
        return digest_file(path)

    monkeypatch.setattr(file_memo, "digest_file", read)
    return found


def keep_size_and_time(path: Path, content: bytes) -> None:
    """Change a file and turn back its time of modification, as `cp -p` and `rsync -t` do."""
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


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, files: list[Path], reads: list[Path]
) -> None:
    before = digest_all(tmp_path / "memo", files)
    assert sorted(reads) == files
    assert digest_all(tmp_path / "memo", files) == before
    assert sorted(reads) == files


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["size", "time", "neither"])
def test_a_changed_file_is_read_again(tmp_path: Path, files: list[Path], change: str) -> None:
    digest_all(tmp_path / "memo", files)
    content = b"longer than before" if change == "size" else b"A.JPG"
    time.sleep(TICK)
    if change == "neither":
        keep_size_and_time(files[0], content)
    else:
        files[0].write_bytes(content)
    assert digest_all(tmp_path / "memo", files)[files[0]] == digest_bytes(content)


def test_a_file_written_just_now_is_not_remembered(
    tmp_path: Path, files: list[Path], reads: list[Path]
) -> None:
    for path in files:
        os.utime(path, (0, 0))  # of modification; when it was changed cannot be set
    digest_all(tmp_path / "memo", files)
    digest_all(tmp_path / "memo", files)
    assert len(reads) == 2 * len(files)


@pytest.mark.usefixtures("settled")
def test_two_files_that_change_places_are_read_again(tmp_path: Path, files: list[Path]) -> None:
    for path in files:
        os.utime(path, (0, 0))
    before = digest_all(tmp_path / "memo", files)
    files[0].rename(tmp_path / "aside")
    files[1].rename(files[0])
    (tmp_path / "aside").rename(files[1])
    after = digest_all(tmp_path / "memo", files)
    assert (after[files[0]], after[files[1]]) == (before[files[1]], before[files[0]])


NAMES = ("a", "b", "c", "d")
STEPS = st.tuples(
    st.sampled_from(
        ("rename", "swap", "copy", "restore", "write", "hard link", "link", "settle", "ask")
    ),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)


def take(step: tuple[str, str, str], folder: Path) -> None:
    """Do to two files, which may be one, what people and programs do."""
    what, source, target = step[0], folder / step[1], folder / step[2]
    if source == target or not source.exists():
        return
    if what == "rename":
        source.replace(target)
    elif what == "swap" and target.exists():
        source.rename(folder / "aside")
        target.rename(source)
        (folder / "aside").rename(target)
    elif what == "copy":  # with its times; through a link, into what it leads to
        shutil.copyfile(source, target) if not same(source, target) else None
        shutil.copystat(source, target)
    elif what == "restore" and target.exists():  # another content of one size, in place
        keep_size_and_time(target, source.read_bytes())
    elif what == "write":
        source.write_bytes(target.name.encode() * 3)
    elif what in ("hard link", "link"):
        target.unlink(missing_ok=True)
        target.hardlink_to(source) if what == "hard link" else target.symlink_to(source)


def same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


@pytest.mark.skipif(os.name == "nt", reason="the time of change is that of creation there")
def test_no_order_of_renames_copies_and_restores_leads_the_memo_astray(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_memo, "_RACY_NS", int(TICK * 1e9) - 5_000_000)
    answered, read = [0], [0]

    def count(path: Path) -> bytes:
        read[0] += 1
        return digest_file(path)

    monkeypatch.setattr(file_memo, "digest_file", count)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.lists(STEPS, min_size=2, max_size=10))
    def check(steps: list[tuple[str, str, str]]) -> None:
        folder = tmp_path_factory.mktemp("files")
        for name in NAMES:
            (folder / name).write_bytes(name.encode() * 3)
            os.utime(folder / name, (1e9, 1e9))
        for step in [("settle", "a", "b"), ("ask", "a", "b"), *steps, ("ask", "a", "b")]:
            take(step, folder)
            if step[0] == "settle":
                time.sleep(TICK)
            elif step[0] == "ask":
                paths = [folder / name for name in NAMES if (folder / name).exists()]
                answered[0] += len(paths)
                found = digest_all(folder / "memo", paths)
                assert found == {path: digest_bytes(path.read_bytes()) for path in paths}

    check()
    assert read[0] < 0.8 * answered[0]  # the memo answers for what did not change


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("all_of_them", [False, True])
def test_what_is_forgotten_is_read_again(
    tmp_path: Path, files: list[Path], reads: list[Path], all_of_them: bool
) -> None:
    with FileDigests(tmp_path / "memo") as digests:
        digests.digests(files)
        reads.clear()
        digests.forget(None if all_of_them else files[:1])
        digests.digests(files)
    assert sorted(reads) == (files if all_of_them else files[:1])


@pytest.mark.usefixtures("settled")
def test_a_memo_of_before_is_not_believed(tmp_path: Path, files: list[Path]) -> None:
    memo = sqlite3.connect(tmp_path / "memo")
    memo.execute(
        "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB) "
        "WITHOUT ROWID"
    )
    status = files[0].stat()
    row = (os.fsencode(files[0]), status.st_size, status.st_mtime_ns, bytes(16))
    memo.execute("INSERT INTO files VALUES (?, ?, ?, ?)", row)
    memo.commit()
    assert digest_all(tmp_path / "memo", files) == digest_all(None, files)
    assert memo.execute("SELECT name FROM sqlite_master").fetchall() == [("file_digests",)]
    memo.close()


def test_a_moved_file_is_read_under_its_new_path(tmp_path: Path, files: list[Path]) -> None:
    before = digest_all(tmp_path / "memo", files)
    moved = files[0].rename(tmp_path / "moved.jpg")
    assert digest_all(tmp_path / "memo", [moved])[moved] == before[files[0]]


def test_deleting_the_memo_changes_nothing(tmp_path: Path, files: list[Path]) -> None:
    before = digest_all(tmp_path / "memo", files)
    (tmp_path / "memo").unlink()
    assert digest_all(tmp_path / "memo", files) == before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_memo_is_replaced(
    tmp_path: Path, files: list[Path], content: bytes, reads: list[Path]
) -> None:
    memo = tmp_path / "memo"
    memo.write_bytes(content)
    before = digest_all(memo, files)
    assert before == digest_all(None, files)
    reads.clear()
    assert digest_all(memo, files) == before
    assert not reads


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("offset", range(4096, 20480, 1024))
def test_a_memo_damaged_inside_gives_digests_all_the_same(tmp_path: Path, offset: int) -> None:
    paths = [tmp_path / f"{number:04}.jpg" for number in range(300)]
    for path in paths:
        path.write_bytes(path.name.encode())
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


@pytest.mark.usefixtures("settled")
def test_a_name_that_is_not_unicode_is_remembered(tmp_path: Path, reads: list[Path]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(b"content")
    assert digest_all(tmp_path / "memo", [path]) == digest_all(tmp_path / "memo", [path])
    assert reads == [path]


@pytest.mark.usefixtures("settled")
def test_relative_and_absolute_paths_are_one_file(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    before = digest_all(tmp_path / "memo", files)
    reads.clear()
    monkeypatch.chdir(tmp_path)
    assert digest_all(tmp_path / "memo", [Path("a.jpg")])[Path("a.jpg")] == before[files[0]]
    assert not reads


def test_progress_adds_up_to_the_number_of_files(files: list[Path]) -> None:
    counts: list[int] = []
    with FileDigests(None) as digests:
        digests.digests([*files, Path("gone")], progress=counts.append)
    assert sum(counts) == 4


@pytest.mark.usefixtures("settled")
def test_two_users_of_one_memo_are_both_right(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(3000)]
    for path in paths:
        path.write_bytes(path.name.encode())
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


def test_only_a_regular_file_is_read_and_not_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "large.jpg").write_bytes(bytes(3000))
    monkeypatch.setattr("fic.digests._MOST_BYTES", 2000)
    for name in ("pipe.jpg", "zero.jpg", "large.jpg"):
        with pytest.raises(OSError, match=r"not a regular file|more than 2000 bytes"):
            digest_file(tmp_path / name)
    if Path("/proc/kmsg").exists():
        (tmp_path / "kernel.jpg").symlink_to("/proc/kmsg")
        assert digest_file(tmp_path / "kernel.jpg") == digest_bytes(b"")
