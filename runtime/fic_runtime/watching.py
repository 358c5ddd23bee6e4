"""Watch a video, a camera or a stream: which label holds, and when does it change?"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .predictions import Prediction

_PATIENCE = 10.0  # seconds without a frame, after which a live source is given up


class Capture(Protocol):
    """What is used of a cv2.VideoCapture."""

    def grab(self) -> bool:
        """Go to the next frame; return whether there is one."""

    def retrieve(self) -> tuple[bool, Any]:
        """Return whether the frame could be decoded, and its pixels, BGR."""

    def get(self, property: int, /) -> float:
        """Return a property, 0 where it is not known."""

    def release(self) -> None:
        """Give the source back."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a source.

    `number` counts all frames of the source from 0, `seconds` is the time in the video or, of a
    live source, since it was opened; `pixels` is uint8 BGR, shape (height, width, 3).
    """

    number: int
    seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is to be seen in a frame.

    `label` is the one that holds, None where there is none; `changed` says that it is another one
    than at the frame before. `prediction` is that of this frame alone.
    """

    frame: Frame
    prediction: Prediction
    label: str | None
    changed: bool


def is_live(source: str) -> bool:
    """Return whether a source is a camera or the address of a stream, and not a file."""
    return source.isdecimal() or ("://" in source and not source.startswith("file://"))


def open_capture(source: str) -> Capture:
    """Open a video file, a camera by its number, or a stream by its address, with OpenCV.

    Raises:
        VideoError: it cannot be opened.
    """
    import cv2

    if not is_live(source) and "://" not in source and not Path(source).is_file():
        raise VideoError(
            f"{source}: no such file; give a video file, the number of a camera or a stream's URL"
        )
    capture: Any = None
    with suppress(cv2.error):
        capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if capture is None or not capture.isOpened():
        if source.isdecimal():
            hint = "check that there is such a camera, that no other program uses it, and that "
            hint += "this user may read it (on Linux, the group `video`)"
        elif is_live(source):
            hint = "check the address and the network"
        else:
            hint = "it is not a video that this build of OpenCV reads; convert it, say to MP4"
        kind = "camera " if source.isdecimal() else ""
        raise VideoError(f"{kind}{source}: cannot be opened; {hint}")
    opened: Capture = capture
    return opened


class RecordedFrames:
    """The frames of a video file, in order.

    Args:
        capture: the video.
        every: seconds of the video from one frame to the next; 0 for all frames.

    Attributes:
        read: how many frames were read so far, those between two that were asked for included.
    """

    def __init__(self, capture: Capture, *, every: float = 0.0) -> None:
        self._capture = capture
        self._every = every
        self.read: int = 0

    def __iter__(self) -> Iterator[Frame]:
        due = 0.0
        for number, seconds in _grabbed(self._capture):
            self.read = number + 1
            # A thousandth: 0.1 * 3 is a little more than 0.3.
            if seconds + 1e-3 < due:
                continue
            due = seconds + self._every
            there, pixels = self._capture.retrieve()
            if there:
                yield Frame(number, seconds, pixels)

    def close(self) -> None:
        """Give the source back."""
        self._capture.release()


class LiveFrames:
    """The newest frame of a live source, whenever one is asked for.

    A thread reads every frame at the source's own speed and keeps the newest: cameras and servers
    queue frames for a slow reader, who would see the past.

    Args:
        capture: the camera or stream; a video file if `paced`.
        every: the least seconds from one frame to the next.
        paced: play a file at its own speed, as if it were live.

    Attributes:
        read: how many frames came so far, those that were skipped included.
    """

    def __init__(self, capture: Capture, *, every: float = 0.0, paced: bool = False) -> None:
        self._capture = capture
        self._every = every
        self._paced = paced
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: Exception | None = None
        self._ended = self._closed = False
        self.read: int = 0
        self._thread = threading.Thread(target=self._follow, name="fic-camera", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        due = time.monotonic()
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + self._every
            frame = self._next()
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """End the thread and give the source back."""
        self._closed = True
        if self._thread.is_alive():
            self._thread.join(1.0)
        if not self._thread.is_alive():  # a camera that hangs cannot be given back
            self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Frame | None:
        give_up = time.monotonic() + _PATIENCE
        with self._changed:
            while self._newest is None:
                if self._error is not None:
                    raise VideoError(
                        f"the source cannot be read any more ({self._error})"
                    ) from self._error
                if self._ended:
                    return None
                if time.monotonic() > give_up:
                    raise VideoError(
                        f"no frame came for {_PATIENCE:g} s; check the camera or the network"
                    )
                # With a timeout, or Ctrl-C would not be noticed on Windows.
                self._changed.wait(0.2)
            frame, self._newest = self._newest, None
            return frame

    def _follow(self) -> None:
        opened = time.monotonic()
        try:
            for number, seconds in _grabbed(self._capture):
                if self._closed:
                    return
                if self._paced:
                    time.sleep(max(0.0, opened + seconds - time.monotonic()))
                else:
                    seconds = time.monotonic() - opened
                there, pixels = self._capture.retrieve()
                if there:
                    self._keep(Frame(number, seconds, pixels))
        except Exception as error:  # handed over to the thread that waits for frames
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _keep(self, frame: Frame) -> None:
        with self._changed:
            self._newest = frame
            self.read = frame.number + 1
            self._changed.notify_all()


def _grabbed(capture: Capture) -> Iterator[tuple[int, float]]:
    # Yields the number and the time of each frame that `retrieve` would decode.
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS)
    number, last = 0, 0.0
    while capture.grab():
        # A phone's videos have no steady rate, so the time stamps count where there are any.
        seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not seconds > last:
            seconds = number / rate if rate > 0 else last
        last = max(last, seconds)
        yield number, last
        number += 1


def watch(
    frames: Iterable[Frame],
    classify: Callable[[NDArray[np.uint8]], Prediction],
    *,
    min_probability: float = 0.0,
    hold: int = 1,
) -> Iterator[Sighting]:
    """Yield what is to be seen in each frame.

    A frame that is not known (see `Prediction.known`) has no label, however probable one is.

    Args:
        frames: of a video, a camera, or made by hand.
        classify: from a frame's pixels to their prediction.
        min_probability: a prediction below it stands for no label.
        hold: a new label, or none, holds once so many frames in a row agree on it.
    """
    label: str | None = None
    candidate, agreeing = label, 0
    for frame in frames:
        prediction = classify(frame.pixels)
        sure = prediction.known is not False and prediction.probability >= min_probability
        found = prediction.label if sure else None
        agreeing = agreeing + 1 if found == candidate else 1
        candidate = found
        changed = candidate != label and agreeing >= hold
        if changed:
            label = candidate
        yield Sighting(frame, prediction, label, changed)
