"""Whatever others made is read from regular files, without waiting, and to a limit."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fic_runtime.reading import is_private, open_regular, private_folder, read_regular

POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has no owners or pipes of this kind")


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_not(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes") as caught:
        read_regular(tmp_path / "a", 4)
    assert caught.value.errno == errno.EFBIG
    (tmp_path / "empty").touch()
    assert read_regular(tmp_path / "empty", 0) == b""


@POSIX
@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "pipe", "folder"])
def test_a_device_a_pipe_and_a_folder_are_refused_at_once(place, through_link, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = tmp_path / place
    if through_link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    began = time.monotonic()
    with pytest.raises(OSError) as caught:  # its words are looked at
        read_regular(path, 1 << 30)
    assert caught.value.strerror in ("it is not a regular file", os.strerror(errno.EISDIR))
    assert time.monotonic() - began < 1


@POSIX
def test_a_link_is_followed_unless_it_may_not_be(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link", 1) == b"1"
    with pytest.raises(OSError) as caught:
        open_regular(tmp_path / "link", follow_link=False)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="Linux only")
@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/status"])
def test_a_file_that_says_it_is_empty_is_not_read(path):
    try:
        assert read_regular(path, 1 << 20) == b""
    except PermissionError:
        assert path == "/proc/kmsg"


def test_a_file_that_grows_while_it_is_read_ends_at_the_limit(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(5_000_000))
    real = os.fstat

    def early(descriptor):
        return os.stat_result((*real(descriptor)[:6], 10, *real(descriptor)[7:]))

    monkeypatch.setattr(os, "fstat", early)
    assert len(read_regular(tmp_path / "a", 5_000_000)) == 5_000_000
    with pytest.raises(OSError, match="more than 4000000 bytes"):
        read_regular(tmp_path / "a", 4_000_000)


@POSIX
@pytest.mark.parametrize(("mode", "private"), [(0o700, True), (0o755, True), (0o775, False)])
def test_what_others_may_write_is_not_private(mode, private, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(mode)
    assert is_private((tmp_path / "folder").stat()) == private
    if private:
        assert private_folder(tmp_path / "folder") == str((tmp_path / "folder").resolve())
    else:
        with pytest.raises(PermissionError, match="others may write to it"):
            private_folder(tmp_path / "folder")


@POSIX
def test_a_folder_below_one_that_others_may_write_is_not_private_either(tmp_path):
    (tmp_path / "above/folder").mkdir(parents=True)
    (tmp_path / "above").chmod(0o777)
    (tmp_path / "link").symlink_to("above/folder")
    for path in (tmp_path / "above/folder", tmp_path / "link"):
        with pytest.raises(PermissionError, match="others may write to it") as caught:
            private_folder(path)
        assert caught.value.filename == str((tmp_path / "above").resolve())
    (tmp_path / "above").chmod(0o1777)  # as /tmp: others can exchange nothing of mine
    private_folder(tmp_path / "link")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give it away")
def test_what_belongs_to_somebody_else_is_not_private(tmp_path):
    (tmp_path / "above/folder").mkdir(parents=True)
    os.chown(tmp_path / "above", 1001, 1001)
    with pytest.raises(PermissionError, match="it belongs to somebody else"):
        private_folder(tmp_path / "above/folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give it away")
def test_a_link_of_somebody_else_to_what_is_mine_is_not_private(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "shared/theirs").symlink_to("../mine")
    assert private_folder(tmp_path / "shared/theirs") == str((tmp_path / "mine").resolve())
    os.lchown(tmp_path / "shared/theirs", 1001, 1001)
    with pytest.raises(PermissionError, match="it belongs to somebody else"):
        private_folder(tmp_path / "shared/theirs")


@POSIX
def test_links_that_lead_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        private_folder(tmp_path / "a/c")


def test_reading_loads_nothing_that_a_start_would_notice():
    program = "import sys; before = {*sys.modules}; import fic_runtime.reading; "
    program += "print(*({*sys.modules} - before))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert {"zipfile", "tempfile", "shutil"}.isdisjoint(found.stdout.split())
