"""Streams that are closed, broken or of another encoding, and signals that end the program."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from fic_runtime.cli import info, main, process
from fic_runtime.cli.process import prepare_streams

PROGRAM = [sys.executable, "-m", "fic_runtime"]
NAMES = ["caf\u00e9.png", "\u65e5\u672c \U0001f600.png", "caf\udce9.png", "a\nb.png"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="the shell's own redirections")


def shell(line, **environment):
    """Run a line in which $P is the program."""
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        env={**os.environ, "P": " ".join(PROGRAM), **environment},
        check=False,
    )


@POSIX
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_program_without_streams_works(streams, golden):
    done = shell(f"$P predict {golden} {golden}/small.png {streams}")
    assert done.returncode == 0
    assert done.stderr == b""
    assert bool(done.stdout) is (">&-" not in streams.replace("2>&-", ""))


@POSIX
@pytest.mark.parametrize("streams", [">/dev/full", ">/dev/full 2>/dev/full", "2>/dev/full"])
def test_a_stream_that_is_full_is_no_traceback(streams, golden):
    line = f"$P predict {golden} {golden}/small.png {golden}/none.png {streams}"
    done = shell(line)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 2


@POSIX
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--help", "predict --help", "--version"])
def test_help_that_cannot_be_written_is_a_failure(arguments, unbuffered):
    done = shell(f"$P {arguments} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == b"fic-runtime: cannot write the answers (No space left on device)\n"


@POSIX
def test_wrong_usage_is_code_2_where_it_cannot_be_told():
    assert shell("$P predict 2>/dev/full", PYTHONUNBUFFERED="").returncode == 2


@POSIX
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_in_any_encoding_and_for_any_name(encoding, golden, tmp_path):
    pictures = [tmp_path / name for name in NAMES]
    try:
        for picture in pictures:
            shutil.copy(golden / "small.png", picture)
    except OSError:
        pytest.skip("this file system takes no such name")
    done = subprocess.run(
        [*PROGRAM, "predict", golden, *map(os.fsencode, pictures), "--json"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    lines = done.stdout.decode("utf-8").splitlines()  # which JSON is, whatever the terminal has
    assert [json.loads(line)["file"] for line in lines] == list(map(str, pictures))


def test_letters_that_an_encoding_lacks_are_escapes(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252"))
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
    print("\u20ac \u65e5 \U0001f600 \udce9", flush=True)
    print("nobody hears", file=sys.stderr)
    sys.stderr.close()
    assert out.getvalue().strip() == b"\x80 \\u65e5 \\ud83d\\ude00 \\udce9"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "the memory of this machine does not suffice"),
        (ImportError("cv2.so: failed to map segment"), "cannot be loaded (cv2.so: failed to map"),
        (RuntimeError("can't start new thread"), "no more threads can be started here"),
    ],
    ids=["memory", "library", "threads"],
)
def test_a_machine_that_has_too_little_is_one_line(error, says, monkeypatch, capsys):
    def load(_):
        raise error

    monkeypatch.setattr(info, "_run", load)
    with pytest.raises(SystemExit) as ended:
        main(["info", "bundle"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_library_that_fails_since_it_was_interrupted_is_no_traceback(monkeypatch):
    def load(_):
        try:
            process._end(signal.SIGTERM, None)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(info, "_run", load)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["info", "bundle"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143


@POSIX
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_the_program_as_ctrl_c_does(name, code, golden):
    process = subprocess.Popen(
        [*PROGRAM, "predict", golden, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(os.fsencode(golden / "small.png") + b"\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == b""


@POSIX
def test_a_signal_that_is_ignored_stays_so(golden):
    done = shell(
        f"trap '' HUP; $P predict {golden} {golden}/small.png & sleep 1; kill -HUP $!; wait $!"
    )
    assert done.returncode == 0


@POSIX
def test_a_picture_on_standard_input_is_told_from_paths(golden):
    done = shell(f"$P predict {golden} - < {golden}/small.png")
    assert done.returncode == 1
    assert b"holds bytes and not paths" in done.stderr
    assert done.stderr.count(b"\n") == 1
