"""Show a camera or a video with its label on each frame, or write it as a video; needs fic-runtime.

    python examples/camera.py BUNDLE 0                               # the first camera; q ends it
    python examples/camera.py BUNDLE video.mp4 --out labelled.mp4    # every frame of a file

Prints a line whenever the label changes. The window needs OpenCV's build with windows instead of
the headless one that fic-runtime brings: `pip uninstall -y opencv-python-headless && pip install
opencv-python`. With --out there is none. To print changes only, use `fic-runtime watch`.
"""

import argparse
import sys
from typing import Any

import cv2

from fic_runtime import Classifier, FicError
from fic_runtime.watching import (
    Capture,
    LiveFrames,
    RecordedFrames,
    Sighting,
    is_live,
    open_capture,
    watch,
)

WINDOW = "fic"
LIVE_RATE = 10  # frames a second of a video that is written from a camera


def main() -> None:
    """Classify frame by frame, and draw what was found on each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("source", help="the number of a camera, a video file or a stream's URL")
    parser.add_argument("--out", help="write a video there instead of showing a window")
    parser.add_argument("--hold", type=int, default=1, help="frames that must agree on a change")
    options = parser.parse_args()
    if options.out is None and not can_show():
        sys.exit(
            "this build of OpenCV has no windows, or there is no screen; write a video with "
            "--out FILE, or replace opencv-python-headless by opencv-python"
        )
    try:
        label_frames(options.bundle, options.source, options.out, options.hold)
    except FicError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def can_show() -> bool:
    """Return whether this build of OpenCV can open a window."""
    try:
        cv2.namedWindow(WINDOW)
    except cv2.error:
        return False
    return True


def label_frames(bundle: str, source: str, out: str | None, hold: int) -> None:
    """Draw on each frame the label that holds, until the source ends or q is pressed."""
    writer = None
    # OpenCV's frames are BGR.
    with Classifier(bundle, channel_order="bgr") as classifier:
        capture = open_capture(source)
        frames = frames_of(capture, live=is_live(source), written=out is not None)
        try:
            for sighting in watch(frames, classifier.predict, hold=hold):
                if sighting.changed:
                    print(f"{sighting.frame.seconds:8.2f} s  {caption(sighting)}", flush=True)
                image = draw(sighting)
                if out is not None:
                    writer = writer or new_writer(out, image, capture, live=is_live(source))
                    writer.write(image)
                elif show(image):
                    break
        finally:
            frames.close()
            if writer is not None:
                writer.release()


def frames_of(capture: Capture, *, live: bool, written: bool) -> LiveFrames | RecordedFrames:
    """Return every frame of a file that is written, and else the newest one at any time."""
    if live:
        return LiveFrames(capture, every=1 / LIVE_RATE if written else 0.0)
    return RecordedFrames(capture) if written else LiveFrames(capture, paced=True)


def caption(sighting: Sighting) -> str:
    """Return the label that holds with this frame's probability, or that there is none."""
    if sighting.label is None:
        return "unknown" if sighting.prediction.known is False else "no label"
    if sighting.label != sighting.prediction.label or sighting.prediction.known is False:
        return sighting.label  # a frame that the label outlasts
    return f"{sighting.label} {sighting.prediction.probability:.0%}"


def draw(sighting: Sighting) -> Any:
    """Return the frame with its label in a bar at the top."""
    image = sighting.frame.pixels
    text = caption(sighting)
    cv2.rectangle(image, (0, 0), (image.shape[1], 34), (0, 0, 0), -1)
    cv2.putText(image, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    return image


def new_writer(out: str, image: Any, capture: Capture, *, live: bool) -> cv2.VideoWriter:
    """Open the video to write, of the size of the first frame."""
    rate = LIVE_RATE if live else capture.get(cv2.CAP_PROP_FPS) or 25.0
    height, width = image.shape[:2]
    writer = cv2.VideoWriter(out, cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        sys.exit(f"{out}: cannot be written; give the path of an .mp4 file")
    return writer


def show(image: Any) -> bool:
    """Show a frame; return whether the user wants to end."""
    cv2.imshow(WINDOW, image)
    return cv2.waitKey(1) & 0xFF == ord("q")


if __name__ == "__main__":
    main()
