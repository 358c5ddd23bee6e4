"""`fic-runtime watch`."""

import argparse
import os
import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..errors import VideoError, printable
from .heads import add_head
from .options import add_bundle, add_device, fraction, open_classifier, positive, seconds

if TYPE_CHECKING:
    from ..watching import Sighting
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "watch",
        help="classify a camera or a video",
        description="Classify the frames of a camera, a stream or a video, and print each change "
        "of the label with its time: seconds of a video, time of day of a live source. Frames of a "
        "live source that arrive during a prediction are skipped. Frames unlike the training "
        "pictures have no label, where the bundle can tell. Stop with Ctrl-C.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument("source", metavar="SOURCE", help="camera number, video file or stream URL")
    parser.add_argument(
        "--every",
        type=seconds,
        default=0.0,
        metavar="S",
        help="seconds between frames (default: every frame that time allows)",
    )
    parser.add_argument(
        "--min-probability",
        type=fraction,
        default=0.0,
        metavar="P",
        help="least probability of a label (default: 0)",
    )
    parser.add_argument(
        "--hold",
        type=positive,
        default=1,
        metavar="N",
        help="consecutive frames that confirm a change (default: 1)",
    )
    parser.add_argument("--all", action="store_true", help="print every classified frame")
    parser.add_argument(
        "--live",
        action="store_true",
        help="play a video file in real time, skipping frames",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    add_head(parser)
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    # OpenCV and FFmpeg tell their troubles on stderr, before the one line that says what to do.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from ..watching import LiveFrames, RecordedFrames, is_live, open_capture, watch

    live = is_live(options.source)
    with open_classifier(options, channel_order="bgr") as classifier:
        capture = open_capture(options.source)
        frames: LiveFrames | RecordedFrames
        if live or options.live:
            frames = LiveFrames(capture, every=options.every, paced=not live)
        else:
            frames = RecordedFrames(capture, every=options.every)
        began, started = datetime.now().astimezone(), time.monotonic()
        looked_at = 0
        try:
            for sighting in watch(
                frames,
                classifier.predict,
                min_probability=options.min_probability,
                hold=options.hold,
            ):
                looked_at += 1
                if sighting.changed or options.all:
                    print(_line(sighting, began if live else None, options.json), flush=True)
        except VideoError as error:
            raise VideoError(f"{options.source}: {error}") from error
        finally:
            frames.close()
            wipe = "\r\x1b[K" if sys.stderr.isatty() else ""  # the ^C
            rate = looked_at / (time.monotonic() - started)
            print(
                f"{wipe}{looked_at} frames classified, {frames.read - looked_at} skipped, "
                f"{rate:.1f} a second",
                file=sys.stderr,
            )
    if live or not looked_at:
        raise VideoError(
            f"{options.source}: gave no more frames after {frames.read}; "
            "check the camera, the network or the file"
        )
    return 0


def _line(sighting: "Sighting", began: datetime | None, as_json: bool) -> str:
    frame, prediction = sighting.frame, sighting.prediction
    time_of_day = None
    if began is not None:
        when = began + timedelta(seconds=frame.seconds)
        time_of_day = when.isoformat(timespec="milliseconds")
    if as_json:
        values: dict[str, Any] = {"frame": frame.number, "seconds": round(frame.seconds, 3)}
        if time_of_day is not None:
            values["time"] = time_of_day
        values |= {"label": sighting.label, "changed": sighting.changed}
        values |= {"best": prediction.label, "probability": prediction.probability}
        if prediction.known is not None:
            values |= {"known": prediction.known, "ood_score": prediction.ood_score}
        from .answers import json_line

        return json_line(values)
    stamp = f"{frame.seconds:8.2f} s" if time_of_day is None else time_of_day
    found = f"{printable(prediction.label)} {prediction.probability:.3f}"
    if prediction.known is False:
        found += ", unknown?"
    if sighting.label is None:
        return f"{stamp}  no label ({found})"
    if sighting.label != prediction.label or prediction.known is False:
        return f"{stamp}  {printable(sighting.label)} ({found})"  # a frame that the label outlasts
    return f"{stamp}  {found}"
