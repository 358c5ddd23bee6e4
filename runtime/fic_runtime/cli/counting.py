"""Many pictures through a stream, each with its path, counted on a terminal."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..devices import usable_cpus
from ..errors import ImageError

if TYPE_CHECKING:
    from .options import NamedPictures

Item = TypeVar("Item")
Result = TypeVar("Result")

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

    def report(self, pictures: "NamedPictures", *, verbose: bool) -> None:
        """Say on one line what became of the files that were found, unless all were used."""
        if verbose:
            for line in pictures.files.details():
                print(f"fic-runtime: {line}", file=sys.stderr)
        if line := pictures.files.line():
            print(line, file=sys.stderr)

    def complain(self, error: Exception) -> None:
        """Print an error on a line of its own."""
        print(f"{self._wipe}fic-runtime: {error}", file=sys.stderr)


def threads_each(pictures: Iterable[Path]) -> int | None:
    """Return how many threads each prediction should have; None for the default."""
    # Many pictures keep every processor busy, and threads that share one would wait for each other.
    many = isinstance(pictures, Sized) and len(pictures) > 2 * usable_cpus()
    return 1 if many and not os.environ.get("FIC_THREADS") else None


def with_paths(
    pictures: Iterable[Path],
    stream: Callable[[Iterable[Path]], Generator[Result | ImageError, None, None]],
) -> Generator[tuple[Path, Result | ImageError], None, None]:
    """Yield each path with what the stream made of it; close the generator to end the stream."""
    if isinstance(pictures, Sized):
        with closing(stream(pictures)) as answers:
            yield from zip(pictures, answers, strict=True)
        return
    taken: deque[Path] = deque()  # whose answers have not come yet

    def take() -> Iterator[Path]:
        for path in pictures:
            taken.append(path)
            yield path

    with closing(stream(take())) as answers:
        for answer in answers:
            yield taken.popleft(), answer
