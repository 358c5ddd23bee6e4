"""Act on what a camera shows, on a small board: one thread, the newest frame, for months.

    python examples/pi_loop.py BUNDLE 0 --label cat --switch /sys/class/leds/ACT/brightness

The file given as --switch gets a 1 while the camera shows the label, and a 0 otherwise: also where
the bundle does not know what it sees. On a Raspberry Pi that path is the green LED (root may write
it). To act in another way, put it into `Switch.set`: with the package gpiozero, say, `LED(17).on()`
and `.off()`.

Looks at two frames a second and sleeps between them. A camera that fails is opened again.
Ctrl-C, or the SIGTERM of systemd, ends it with the switch off.
"""

import argparse
import logging
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from fic_runtime import Classifier, FicError
from fic_runtime.watching import LiveFrames, is_live, open_capture, watch

REOPEN_AFTER = 5.0  # seconds

log = logging.getLogger("pi_loop")


class Switch:
    """A file that gets 1 or 0, as the LEDs and pins of Linux have them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, on: bool) -> None:
        """Write the file."""
        self._path.write_text("1\n" if on else "0\n", encoding="ascii")


def main() -> None:
    """Watch until a signal comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("source", help="the number of a camera, a stream's URL or a video file")
    parser.add_argument("--label", required=True, help="what the switch waits for")
    parser.add_argument("--switch", type=Path, required=True, help="the file that gets 1 or 0")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--hold", type=int, default=3, help="looks that must agree on a change")
    parser.add_argument("--min-probability", type=float, default=0.6)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    switch = Switch(options.switch)
    try:
        switch.set(False)
    except OSError as error:
        sys.exit(f"{options.switch}: cannot be written ({error.strerror}); check the path")
    try:
        # One thread: a small board has other things to do, and stays cooler.
        with Classifier(options.bundle, threads=1, channel_order="bgr") as classifier:
            if options.label not in classifier.labels:
                sys.exit(f"--label {options.label}: the bundle knows {classifier.labels}")
            while True:
                try:
                    follow(classifier, switch, options)
                except FicError as error:
                    if not is_live(options.source):
                        raise
                    log.warning("%s; trying again in %g s", error, REOPEN_AFTER)
                    time.sleep(REOPEN_AFTER)
                if not is_live(options.source):
                    break
    except FicError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        switch.set(False)


def follow(classifier: Classifier, switch: Switch, options: argparse.Namespace) -> None:
    """Set the switch whenever the label changes, until the source ends."""
    capture = open_capture(options.source)
    paced = not is_live(options.source)
    with closing(LiveFrames(capture, every=options.every, paced=paced)) as frames:
        for sighting in watch(
            frames,
            classifier.predict,
            min_probability=options.min_probability,
            hold=options.hold,
        ):
            if sighting.changed:
                log.info("%s %.3f", sighting.label, sighting.prediction.probability)
                switch.set(sighting.label == options.label)


if __name__ == "__main__":
    main()
