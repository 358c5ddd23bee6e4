"""Many pictures through a stream, each with its path."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ..devices import usable_cpus
from ..errors import ImageError

Answer = TypeVar("Answer")


def threads_each(pictures: Iterable[Path]) -> int | None:
    """Return how many threads each prediction should have; None for the default."""
    # Many pictures keep every processor busy, and threads that share one would wait for each other.
    many = isinstance(pictures, Sized) and len(pictures) > 2 * usable_cpus()
    return 1 if many and not os.environ.get("FIC_THREADS") else None


def with_paths(
    pictures: Iterable[Path],
    stream: Callable[[Iterable[Path]], Generator[Answer | ImageError, None, None]],
) -> Generator[tuple[Path, Answer | ImageError], None, None]:
    """Yield each path with what the stream made of it; close the generator to end the stream."""
    taken: deque[Path] = deque()  # whose answers have not come yet

    def take() -> Iterator[Path]:
        for path in pictures:
            taken.append(path)
            yield path

    with closing(stream(take())) as answers:
        for answer in answers:
            yield taken.popleft(), answer
