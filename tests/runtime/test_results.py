"""Results appear whole or not at all, and nothing else is touched."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from fic_runtime import results
from fic_runtime.errors import OutputError
from fic_runtime.results import (
    check_apart,
    check_own_file,
    check_place,
    check_replaceable,
    check_writable,
    replacing_folder,
    replacing_result,
    whole_file,
)

MARK = "manifest.json"


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def earlier(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / MARK).write_text("old")
    (folder / "only-old").write_text("old")
    return folder


def write(path, text="new", *, result=replacing_folder):
    with result(path, mark=MARK) as fresh:
        (fresh / MARK).write_text(text)


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    write(tmp_path / "a/b/bundle")
    assert contents(tmp_path) == {"a/b/bundle/manifest.json": "new"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle")
    assert contents(tmp_path) == {"bundle/manifest.json": "new"}


def test_an_earlier_result_is_replaced_as_a_whole(earlier):
    write(earlier)
    assert contents(earlier.parent) == {"bundle/manifest.json": "new"}
    assert list(earlier.parent.iterdir()) == [earlier]


def test_the_earlier_result_stands_until_the_new_one_is_whole(earlier):
    with replacing_folder(earlier, mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        assert (earlier / MARK).read_text() == "old"


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_earlier_result_stays_when_the_new_one_fails(kind, earlier):
    with pytest.raises(kind), replacing_folder(earlier, mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        raise kind
    assert contents(earlier.parent) == {"bundle/manifest.json": "old", "bundle/only-old": "old"}


def test_nothing_is_left_of_a_result_that_fails(tmp_path):
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "a/b", mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_comes_back_when_the_new_one_cannot_take_its_place(earlier, monkeypatch):
    rename = Path.rename

    def fail_for_the_new(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space"):
        write(earlier)
    assert contents(earlier.parent) == {"bundle/manifest.json": "old", "bundle/only-old": "old"}


@pytest.mark.parametrize("name", ["photo.jpg", ".hidden", "sub/manifest.json"])
def test_a_folder_with_other_files_is_refused_and_kept(name, tmp_path):
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("precious")
    with pytest.raises(OutputError, match=r"holds other files and no manifest\.json; give a new"):
        write(tmp_path / "mine")
    assert contents(tmp_path) == {f"mine/{name}": "precious"}


def test_files_that_come_while_the_result_is_made_are_kept(tmp_path):
    with (
        pytest.raises(OutputError, match="holds other files"),
        replacing_folder(tmp_path / "bundle", mark=MARK) as fresh,
    ):
        (fresh / MARK).write_text("new")
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle/mine").write_text("precious")
    assert contents(tmp_path) == {"bundle/mine": "precious"}


def test_a_file_is_refused_and_kept(tmp_path):
    (tmp_path / "bundle").write_text("precious")
    with pytest.raises(OutputError, match="is a file; give a new or empty folder"):
        check_replaceable(tmp_path / "bundle", mark=MARK)
    assert contents(tmp_path) == {"bundle": "precious"}


def test_a_link_stays_and_what_it_leads_to_is_replaced(earlier):
    link = earlier.parent / "current"
    link.symlink_to(earlier)
    write(link)
    assert link.is_symlink()
    assert contents(earlier) == {"manifest.json": "new"}


def test_a_relative_folder_is_found(earlier, monkeypatch):
    monkeypatch.chdir(earlier.parent)
    write(Path("bundle"))
    assert contents(earlier) == {"manifest.json": "new"}


def test_the_folder_can_be_read_by_others_as_any_new_one(tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "bundle").stat().st_mode == (tmp_path / "plain").stat().st_mode


def fill(path, text="new", **options):
    with whole_file(path, **options) as part:
        part.write_text(text)


def test_a_file_appears_when_it_is_whole(tmp_path):
    file = tmp_path / "labels.json"
    file.write_text("old")
    with whole_file(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert contents(tmp_path) == {"labels.json": "new"}


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, OSError])
def test_nothing_is_left_of_a_file_that_fails(kind, tmp_path):
    (tmp_path / "old.json").write_text("old")
    for name in ("old.json", "new.json"):
        with pytest.raises(kind), whole_file(tmp_path / name) as part:
            part.write_text("half")
            raise kind
    assert contents(tmp_path) == {"old.json": "old"}


def test_the_link_to_a_file_stays_and_the_file_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere/1.json")
    fill(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert contents(tmp_path / "elsewhere") == {"1.json": "new"}


def test_a_link_may_be_replaced_itself(tmp_path):
    (tmp_path / "photo.jpg").write_text("precious")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    fill(tmp_path / "link.jpg", follow_link=False)
    assert not (tmp_path / "link.jpg").is_symlink()
    assert contents(tmp_path) == {"photo.jpg": "precious", "link.jpg": "new"}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_new_one(umask, tmp_path):
    before = os.umask(umask)
    try:
        fill(tmp_path / "new.json")
        (tmp_path / "plain.json").write_text("")
        write(tmp_path / "bundle.zip", result=replacing_result)
    finally:
        os.umask(before)
    expected = (tmp_path / "plain.json").stat().st_mode
    assert (tmp_path / "new.json").stat().st_mode == expected
    assert (tmp_path / "bundle.zip").stat().st_mode == expected


@pytest.mark.parametrize("name", ["head.weights.h5", "a.keras", "ж" * 120 + ".weights.h5", "none"])
def test_a_writer_may_go_by_the_suffix_whatever_the_length_of_the_name(name, tmp_path):
    with whole_file(tmp_path / name) as part:
        assert part.parent.parent == tmp_path  # one file system, so it can be renamed
        assert part.name.endswith("." + name.partition(".")[2] if "." in name else name)
        part.write_text("new")
    assert contents(tmp_path) == {name: "new"}


def test_a_file_in_no_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        fill(tmp_path / "absent/new.json")


def test_an_archive_is_the_same_for_the_same_files(tmp_path):
    write(tmp_path / "a.zip", result=replacing_result)
    write(tmp_path / "b.zip", result=replacing_result)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert ZipFile(tmp_path / "a.zip").read(MARK) == b"new"


def test_an_archive_replaces_only_an_earlier_one(tmp_path):
    archive = tmp_path / "bundle.zip"
    archive.write_text("precious")
    with pytest.raises(OutputError, match=r"is a file that holds no manifest\.json"):
        write(archive, result=replacing_result)
    assert archive.read_text() == "precious"
    archive.unlink()
    write(archive, "old", result=replacing_result)
    write(archive, result=replacing_result)
    assert ZipFile(archive).read(MARK) == b"new"
    assert list(tmp_path.iterdir()) == [archive]


def test_a_folder_is_no_place_for_an_archive(tmp_path):
    (tmp_path / "bundle.zip").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_place(tmp_path / "bundle.zip", mark=MARK)


def test_a_result_with_a_file_of_somebody_else_beside_it_is_refused_and_kept(earlier):
    (earlier / ".DS_Store").write_text("litter")
    check_replaceable(earlier, mark=MARK, names={MARK, "only-old"})
    with pytest.raises(OutputError, match="holds only-old beside an earlier result"):
        check_replaceable(earlier, mark=MARK, names={MARK})


def test_the_earlier_result_can_be_kept(earlier):
    for text in ("new", "newest"):
        with replacing_folder(earlier, mark=MARK, keep=earlier.with_name("before")) as fresh:
            (fresh / MARK).write_text(text)
    assert contents(earlier.parent) == {
        "bundle/manifest.json": "newest",
        "before/manifest.json": "new",
    }


def test_a_folder_that_cannot_be_renamed_is_filled(earlier, monkeypatch):
    """As one that a container mounts."""
    rename = Path.rename

    def busy(self, target):
        if self == earlier:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    write(earlier)
    assert contents(earlier.parent) == {"bundle/manifest.json": "new"}
    monkeypatch.setattr(Path, "is_mount", lambda self: self == earlier)
    write(earlier, "newer")
    assert contents(earlier.parent) == {"bundle/manifest.json": "newer"}


KILLED = """
import os, signal, sys
from pathlib import Path
from fic_runtime.results import replacing_folder, replacing_result, whole_file
out, how = Path(sys.argv[1]), sys.argv[2]
if how == "between the renames":
    rename = Path.rename
    def once(self, target):
        if self.name == "new":
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.rename = once
write = {"file": whole_file}.get(how) or (lambda path: replacing_result(path, mark="manifest.json"))
with write(out) as part:
    part = part if how == "file" else part / "manifest.json"
    part.write_text("half")
    if how == "waits":
        print("ready", flush=True)
        input()
    if how != "between the renames":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(out, how, **options):
    return subprocess.Popen([sys.executable, "-c", KILLED, str(out), how], **options)


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
@pytest.mark.parametrize(
    ("name", "how"),
    [("bundle", "folder"), ("bundle.zip", "archive"), ("x.json", "file")],
)
def test_the_next_writer_sweeps_what_a_killed_one_left(name, how, tmp_path):
    mine = tmp_path / ".bundle-backup12"  # hidden, too, but not of fic
    mine.mkdir()
    assert start(tmp_path / name, how).wait() == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    write(tmp_path / "bundle")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", mine.name}


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_an_earlier_result_comes_back_after_a_kill_between_the_renames(earlier):
    assert start(earlier, "between the renames").wait() == -signal.SIGKILL
    assert not earlier.exists()
    write(earlier.with_name("another"))
    assert contents(earlier.parent) == {
        "bundle/manifest.json": "old",
        "bundle/only-old": "old",
        "another/manifest.json": "new",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_what_a_living_process_writes_is_not_swept(tmp_path):
    other = start(
        tmp_path / "bundle", "waits", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "ready\n"
        write(tmp_path / "bundle")
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        other.communicate("\n")
    assert contents(tmp_path / "bundle") == {"manifest.json": "new"}


def test_without_locks_only_what_is_a_day_old_is_swept(tmp_path, monkeypatch):
    def unlockable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if sys.platform != "win32":
        monkeypatch.setattr(results.fcntl, "flock", unlockable)
    new, old, linked, own = (
        tmp_path / f".bundle-{digit * 12}.fic-part" for digit in ("0", "1", "2", "3")
    )
    for work in (new, old, own):
        (work / "new").mkdir(parents=True)
        (work / "new/weights").write_text("half")
    (tmp_path / "mine/old").mkdir(parents=True)
    (tmp_path / "mine/old/precious").write_text("mine")
    linked.symlink_to(tmp_path / "mine")
    for path in (old / "new/weights", old / "new", old, own / "new", own):
        os.utime(path, (1, 1))  # of `own` one file was written just now
    write(tmp_path / "bundle")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bundle", "mine", new.name, own.name, linked.name}
    assert (tmp_path / "mine/old/precious").is_file()


def test_a_place_is_tried_and_left_as_it_was(earlier):
    for name in ("bundle", "new", "a/b/new.zip"):
        check_writable(earlier.parent / name)
    assert contents(earlier.parent) == {"bundle/manifest.json": "old", "bundle/only-old": "old"}
    assert list(earlier.parent.iterdir()) == [earlier]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * 300, "name too long"),
        ("a/" + "x" * 300, "name too long"),
        ("bundle/manifest.json/new", "Not a directory"),
        ("nul\0", "null byte"),
    ],
)
def test_a_place_that_cannot_be_is_refused_in_one_sentence(name, says, earlier):
    with pytest.raises(OutputError, match=rf"cannot be written \(.*{says}"):
        check_writable(earlier.parent / name)
    assert list(earlier.parent.iterdir()) == [earlier]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_where_nobody_may_write_is_no_place(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        check_writable(tmp_path / "run")


def test_only_a_file_of_its_own_kind_is_replaced(tmp_path):
    file = tmp_path / "labels.json"
    check_own_file(file, lambda path: False, kind="a label file")
    file.write_text("precious")
    check_own_file(file, lambda path: path.read_text() == "precious", kind="a label file")
    for is_own in (lambda path: False, lambda path: 1 / 0):
        with pytest.raises(OutputError, match="is there already and is not a label file"):
            check_own_file(file, is_own, kind="a label file")
    with pytest.raises(OutputError, match="is a folder"):
        check_own_file(tmp_path, lambda path: True, kind="a label file")


def test_results_are_kept_apart_from_pictures(tmp_path):
    (tmp_path / "photos/cats").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos/cats")
    check_apart(tmp_path / "photos-seen", [tmp_path / "photos"])
    for name in ("photos", "photos/seen", "link/x.csv"):
        with pytest.raises(OutputError, match="lies inside the pictures"):
            check_apart(tmp_path / name, [tmp_path / "photos"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_asked_whether_it_is_an_earlier_result(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is not a page that fic wrote"):
        check_own_file(tmp_path / "pipe", lambda path: bool(path.read_bytes()), kind="a page")
