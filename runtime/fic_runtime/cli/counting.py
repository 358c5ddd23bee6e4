"""Count pictures on the terminal, and name on it those that fail."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path

_SECONDS_BETWEEN_COUNTS = 0.2


class Count:
    """A line on the terminal that says how many pictures were done.

    Args:
        answers: they are printed while the count goes on; on one terminal they would be in its way.
    """

    def __init__(self, *, answers: bool) -> None:
        self._wipe = "\r\x1b[K" if sys.stderr.isatty() else ""
        if answers and sys.stdout.isatty():
            self._wipe = ""

    def of(self, pictures: Iterable[Path]) -> Iterator[Path]:
        """Yield the pictures and count them."""
        if not self._wipe:
            yield from pictures
            return
        total = f" of {len(pictures)}" if isinstance(pictures, Sized) else ""
        shown = 0.0
        for number, path in enumerate(pictures, 1):
            if time.monotonic() - shown > _SECONDS_BETWEEN_COUNTS:
                shown = time.monotonic()
                print(f"\r{number}{total} pictures", end="", file=sys.stderr, flush=True)
            yield path
        print(self._wipe, end="", file=sys.stderr, flush=True)

    def complain(self, error: Exception) -> None:
        """Print an error on a line of its own."""
        print(f"{self._wipe}fic-runtime: {error}", file=sys.stderr)
