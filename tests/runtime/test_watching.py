"""Watching: every frame of a video counts, of a camera the newest, and a label that holds."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from fic_runtime import cli, watching
from fic_runtime.errors import VideoError
from fic_runtime.predictions import Prediction
from fic_runtime.watching import Frame, LiveFrames, RecordedFrames, is_live, open_capture, watch

LABELS = ("cat", "dog")
FRAMES = 12


class Source:
    """A capture of `count` frames, each filled with its number, `rate` a second."""

    def __init__(self, count, *, rate=10.0, stamps=True, before_grab=lambda number: None):
        self.count, self.rate, self.stamps, self.before_grab = count, rate, stamps, before_grab
        self.grabbed, self.retrieved, self.released = 0, [], False

    def grab(self):
        self.before_grab(self.grabbed)
        self.grabbed += 1
        return self.grabbed <= self.count

    def retrieve(self):
        self.retrieved.append(self.grabbed - 1)
        return True, np.full((4, 4, 3), self.grabbed - 1, np.uint8)

    def get(self, property):
        if property == cv2.CAP_PROP_FPS:
            return self.rate
        return 1000 * (self.grabbed - 1) / self.rate if self.stamps else 0.0

    def release(self):
        self.released = True


def prediction(label, probability=0.9, known=None):
    index = LABELS.index(label)
    rest = [1 - probability] * 2
    rest[index] = probability
    return Prediction.from_probabilities(np.array(rest, np.float32), LABELS, known=known)


def seen(labels, **options):
    """Return what holds, frame by frame; `cat?` is an improbable cat, `cat!` an unknown one."""
    frames = [Frame(number, number / 10, np.zeros((1, 1, 3))) for number in range(len(labels))]
    found = iter(labels)

    def classify(_):
        name = next(found)
        probability, known = 0.55 if name.endswith("?") else 0.9, not name.endswith("!")
        return prediction(name.rstrip("?!"), probability, known)

    return list(watch(frames, classify, **options))


@pytest.mark.parametrize(
    ("labels", "options", "changes"),
    [
        ("cat cat dog dog", {}, {0: "cat", 2: "dog"}),
        ("cat dog cat dog", {}, {0: "cat", 1: "dog", 2: "cat", 3: "dog"}),
        ("cat dog cat cat dog dog", {"hold": 2}, {3: "cat", 5: "dog"}),
        ("cat cat cat dog cat cat", {"hold": 3}, {2: "cat"}),
        ("cat! cat cat! cat!", {}, {1: "cat", 2: None}),
        ("cat cat cat! cat", {"hold": 2}, {1: "cat"}),
        ("cat? cat cat? dog", {"min_probability": 0.6}, {1: "cat", 2: None, 3: "dog"}),
        ("cat cat cat? cat", {"min_probability": 0.6, "hold": 2}, {1: "cat"}),
        ("cat? cat?", {"min_probability": 0.6}, {}),
        ("", {}, {}),
    ],
)
def test_a_change_is_told_when_it_holds(labels, options, changes):
    sightings = seen(labels.split(), **options)
    assert {each.frame.number: each.label for each in sightings if each.changed} == changes


def test_the_label_that_holds_outlasts_a_frame_of_another():
    sightings = seen(["cat", "cat", "dog", "cat"], hold=2)
    assert [each.label for each in sightings] == [None, "cat", "cat", "cat"]
    assert sightings[2].prediction.label == "dog"


def test_every_frame_of_a_recording_comes_with_its_time():
    frames = list(RecordedFrames(Source(5)))
    assert [each.number for each in frames] == [0, 1, 2, 3, 4]
    assert [each.seconds for each in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [each.pixels[0, 0, 0] for each in frames] == [0, 1, 2, 3, 4]


def test_without_time_stamps_the_rate_gives_the_time():
    frames = RecordedFrames(Source(4, rate=5.0, stamps=False))
    assert [each.seconds for each in frames] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_frames_between_two_that_are_asked_for_are_not_decoded():
    source = Source(10)
    frames = RecordedFrames(source, every=0.3)
    assert [each.number for each in frames] == [0, 3, 6, 9]
    assert source.retrieved == [0, 3, 6, 9]
    assert frames.read == 10


def test_of_a_live_source_the_newest_frame_comes_and_the_others_are_skipped():
    more = threading.Semaphore(1)
    source = Source(100, before_grab=lambda _: more.acquire())
    with LiveFrames(source) as frames:
        newest = iter(frames)
        assert next(newest).number == 0
        for _ in range(7):
            more.release()
        while frames.read < 8:
            time.sleep(0.001)
        assert next(newest).number == 7
        assert frames.read == 8
        more.release()
    assert source.released


def test_a_frame_of_a_live_source_is_seen_once():
    source = Source(3, before_grab=lambda number: time.sleep(0.02))
    with LiveFrames(source) as frames:
        numbers = [each.number for each in frames]
    assert numbers == sorted(set(numbers))
    assert source.released


def test_a_recording_that_is_played_live_takes_its_time():
    started = time.monotonic()
    with LiveFrames(Source(4, rate=20.0), paced=True) as frames:
        last = [each.seconds for each in frames][-1]
    assert last == pytest.approx(0.15)
    assert time.monotonic() - started >= 0.15


def test_a_live_source_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(watching, "_PATIENCE", 0.05)
    go_on = threading.Event()
    frames = LiveFrames(Source(9, before_grab=lambda _: go_on.wait(30)))
    with pytest.raises(VideoError, match=r"no frame came for 0\.05 s; check the camera"):
        next(iter(frames))
    go_on.set()
    frames.close()


def test_an_error_of_a_live_source_reaches_who_waits_for_frames():
    def fail(number):
        if number == 1:
            raise cv2.error("unplugged")

    with (
        LiveFrames(Source(9, before_grab=fail)) as frames,
        pytest.raises(VideoError, match="unplugged"),
    ):
        list(frames)


@pytest.mark.parametrize(
    ("source", "live"),
    [("0", True), ("rtsp://host/x", True), ("file:///x.mp4", False), ("x.mp4", False)],
)
def test_cameras_and_addresses_are_live(source, live):
    assert is_live(source) == live


@pytest.fixture(scope="module")
def video(write_video, tmp_path_factory):
    """Return a video of 12 frames, half of them dark and half of them bright."""
    colors = [(200, 30, 20) if number < 6 else 255 for number in range(FRAMES)]
    frames = [np.full((48, 64, 3), color, np.uint8) for color in colors]
    return write_video(tmp_path_factory.mktemp("video") / "light.avi", frames)


@pytest.fixture
def run(golden, capfd):
    """Return a function that runs `watch` and returns (exit code, stdout, stderr)."""

    def command(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["watch", str(golden), *map(str, arguments)])
        out, err = capfd.readouterr()
        return end.value.code or 0, out, err

    return command


def test_each_frame_of_a_video_gets_the_answer_of_its_picture(run, video, golden):
    from fic_runtime import Classifier

    code, out, err = run(video, "--all", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert re.fullmatch(r"12 frames classified, 0 skipped, [\d.]+ a second\n", err)
    assert [each["frame"] for each in answers] == list(range(FRAMES))
    assert [each["seconds"] for each in answers] == pytest.approx(np.arange(FRAMES) / 10, abs=0.01)
    with Classifier(golden, channel_order="bgr") as classifier:
        for answer, frame in zip(answers, RecordedFrames(open_capture(str(video))), strict=True):
            alone = classifier.predict(frame.pixels)
            assert (answer["best"], answer["probability"]) == (alone.label, alone.probability)


def test_a_frame_that_is_not_known_has_no_label_and_says_so(bundle, edit, video, capfd):
    score = {"method": "maximum_probability", "threshold": -10.0, "file": None}
    edit(lambda values: values.update(known={**score, "false_rejection": 0.05}))
    for options in (["--json"], []):
        with pytest.raises(SystemExit):
            cli.main(["watch", str(bundle), str(video), "--all", *options])
    lines = capfd.readouterr().out.splitlines()
    frame = json.loads(lines[0])
    assert (frame["label"], frame["known"]) == (None, False)
    assert frame["ood_score"] > -10
    assert re.fullmatch(r" +0\.00 s  no label \(.+ 0\.\d+, unknown\?\)", lines[-FRAMES])


def test_only_changes_are_printed(run, video):
    _, every, _ = run(video, "--all", "--json")
    labels = [json.loads(line)["best"] for line in every.splitlines()]
    changes = [
        number for number in range(FRAMES) if number == 0 or labels[number] != labels[number - 1]
    ]
    code, out, _ = run(video)
    assert code == 0
    assert [float(line.split()[0]) for line in out.splitlines()] == pytest.approx(
        [number / 10 for number in changes], abs=0.011
    )


def test_one_frame_in_so_many_seconds_is_looked_at(run, video):
    _, out, err = run(video, "--every", 0.5, "--all", "--json")
    assert [json.loads(line)["frame"] for line in out.splitlines()] == [0, 5, 10]
    assert err.startswith("3 frames classified, 9 skipped")


def test_a_label_below_the_least_probability_is_none(run, video):
    _, out, _ = run(video, "--min-probability", 1, "--all", "--json")
    assert {json.loads(line)["label"] for line in out.splitlines()} == {None}
    _, out, _ = run(video, "--min-probability", 1, "--all")
    assert all("no label (" in line for line in out.splitlines())


@pytest.mark.parametrize("source", ["bad.mp4", "camera 97", "http://127.0.0.1:9/none"])
def test_a_source_that_cannot_be_opened_is_one_line(source, golden, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 50)
    # A process of its own: OpenCV and FFmpeg are told to be silent before they load.
    result = subprocess.run(
        [sys.executable, "-m", "fic_runtime", "watch", golden, source.removeprefix("camera ")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(rf"fic-runtime: {source}: cannot be opened; [^\n]+\n", result.stderr)


def test_a_camera_that_stops_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(watching, "open_capture", lambda source: Source(3))
    code, out, err = run("0", "--json")
    assert code == 1
    assert json.loads(out.splitlines()[0])["time"]
    assert "\nfic-runtime: 0: gave no more frames after 3; check the camera" in err


def test_ctrl_c_is_code_130_with_a_last_line(golden, video):
    process = subprocess.Popen(
        [sys.executable, "-m", "fic_runtime", "watch", golden, video, "--live", "--all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(rb"\d+ frames classified, \d+ skipped, [\d.]+ a second\n", err)
