import runpy
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic_runtime import Prediction
from fic_runtime.watching import Frame, Sighting
from tests.conftest import WriteVideo
from tests.examples.conftest import BUNDLE, ROOT, run

PROGRAM = ROOT / "examples/camera.py"


@pytest.fixture(scope="module")
def video(write_video: WriteVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 12 frames, half of them dark and half of them bright."""
    frames = [np.full((48, 64, 3), 20 if number < 6 else 230, np.uint8) for number in range(12)]
    return write_video(tmp_path_factory.mktemp("video") / "light.avi", frames)


def test_a_line_is_printed_when_the_label_changes(video: Path, tmp_path: Path) -> None:
    result = run("camera.py", BUNDLE, video, "--out", tmp_path / "labelled.mp4")
    assert result.returncode == 0, result.stderr
    times = [float(line.split()[0]) for line in result.stdout.splitlines()]
    labels = [line.split()[2] for line in result.stdout.splitlines()]
    assert times[0] == 0.0
    assert all(one != other for one, other in pairwise(labels))


def test_a_frame_that_the_bundle_does_not_know_is_not_called_by_a_label() -> None:
    caption = runpy.run_path(str(PROGRAM))["caption"]
    frame = Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8))
    for known, label, text in (
        (True, "cat", "cat 90%"),
        (None, "cat", "cat 90%"),
        (False, None, "unknown"),
        (True, None, "no label"),
        (False, "cat", "cat"),
    ):
        prediction = Prediction.from_probabilities(
            np.array([0.9, 0.1], np.float32), ("cat", "dog"), known=known
        )
        assert caption(Sighting(frame, prediction, label, False)) == text


def test_the_labelled_video_has_every_frame(video: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.mp4"
    assert run("camera.py", BUNDLE, video, "--out", labelled).returncode == 0
    frames = cv2.VideoCapture(str(labelled))
    count = 0
    while frames.read()[0]:
        count += 1
    assert count == 12


def test_a_video_that_is_not_there_is_said_in_one_line() -> None:
    result = run("camera.py", BUNDLE, "nothing.mp4", "--out", "labelled.mp4")
    assert result.returncode == 1
    assert result.stderr.startswith("nothing.mp4: no such file")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(
    "GUI:                           NONE" not in cv2.getBuildInformation(),
    reason="this build of OpenCV has windows",
)
def test_a_build_without_windows_says_what_to_do(video: Path) -> None:
    result = run("camera.py", BUNDLE, video)
    assert result.returncode == 1
    assert "--out FILE, or replace opencv-python-headless by opencv-python" in result.stderr
