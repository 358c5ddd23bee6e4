import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.conftest import WriteVideo
from tests.examples.conftest import BUNDLE, ROOT

PROGRAM = ROOT / "examples/pi_loop.py"
SHOWN = "Sonnenblume, groß"
OPTIONS = ("--every", "0", "--hold", "1", "--min-probability", "0")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture
def video(write_video: WriteVideo, tmp_path: Path) -> Path:
    """Return a video that shows one picture of a known label for a second."""
    picture = cv2.imread(str(BUNDLE / "large.png"))
    assert picture is not None
    return write_video(tmp_path / "flower.avi", [picture] * 10)


@pytest.mark.parametrize(("label", "value"), [(SHOWN, "1\n"), ("daisy", "0\n")])
def test_the_switch_is_on_while_the_label_is_shown(
    label: str, value: str, video: Path, tmp_path: Path
) -> None:
    switch = tmp_path / "brightness"
    process = start(BUNDLE, video, "--label", label, "--switch", switch, *OPTIONS)
    assert process.stderr is not None
    assert any(SHOWN in line for line in process.stderr)  # the switch is set just after
    found = {switch.read_text()}
    while process.poll() is None:
        found.add(switch.read_text())
    process.communicate()
    assert process.returncode == 0
    assert value in found
    assert switch.read_text() == "0\n"  # off at the end


def test_the_switch_stays_off_for_what_the_bundle_does_not_know(
    video: Path, tmp_path: Path
) -> None:
    doubting = Path(shutil.copytree(BUNDLE, tmp_path / "doubting"))
    values = json.loads((doubting / "manifest.json").read_text("utf-8"))
    score = {"method": "maximum_probability", "threshold": -10.0, "file": None}
    values["known"] = {**score, "false_rejection": 0.05}
    (doubting / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
    switch = tmp_path / "brightness"
    process = start(doubting, video, "--label", SHOWN, "--switch", switch, *OPTIONS)
    found = {"0\n"}
    while process.poll() is None:
        if switch.exists():
            found.add(switch.read_text() or "0\n")
    _, err = process.communicate()
    assert (process.returncode, found) == (0, {"0\n"})
    assert SHOWN not in err


def test_a_signal_leaves_the_switch_off(video: Path, tmp_path: Path) -> None:
    switch = tmp_path / "brightness"
    process = start(BUNDLE, video, "--label", SHOWN, "--switch", switch, *OPTIONS)
    assert process.stderr is not None
    assert any(SHOWN in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert switch.read_text() == "0\n"


def test_what_cannot_be_is_said_in_one_line(video: Path, tmp_path: Path) -> None:
    for source, label, switch, says in (
        (video, "cat", tmp_path / "x", "--label cat: the bundle knows"),
        (tmp_path / "none.avi", SHOWN, tmp_path / "x", "no such file"),
        (video, SHOWN, tmp_path / "none/x", "cannot be written"),
    ):
        process = start(BUNDLE, source, "--label", label, "--switch", switch)
        _, err = process.communicate()
        assert process.returncode == 1
        assert says in err.splitlines()[-1]
        assert "Traceback" not in err
