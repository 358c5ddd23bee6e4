"""Count pictures on the terminal, and name on it those that fail."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

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

    def of(self, items: Iterable[Item], pictures: object = None) -> Iterator[Item]:
        """Yield the items and count them: `pictures`, or what was made of each, in turn."""
        if not self._wipe:
            yield from items
            return
        pictures = items if pictures is None else pictures
        total = f" of {len(pictures)}" if isinstance(pictures, Sized) else ""
        shown = 0.0
        for number, item in enumerate(items, 1):
            if time.monotonic() - shown > _SECONDS_BETWEEN_COUNTS:
                shown = time.monotonic()
                print(f"\r{number}{total} pictures", end="", file=sys.stderr, flush=True)
            yield item
        print(self._wipe, end="", file=sys.stderr, flush=True)

    def complain(self, error: Exception) -> None:
        """Print an error on a line of its own."""
        print(f"{self._wipe}fic-runtime: {error}", file=sys.stderr)
