"""One budget of memory for all threads that decode: whoever would go past it waits for its turn.

The limits for one picture let it take a gigabyte. As many threads as there are processors would
take as many gigabytes; so large pictures are decoded one after the other, and small ones, which
count for nothing here, as before.
"""

import os
import threading
from collections import deque
from types import TracebackType
from typing import Self

_SMALL = 8 << 20  # bytes; less is not worth a lock
_FOR_PIXELS = 10**9  # of pictures while they are decoded and resized
_FOR_FILES = 2**30  # of their files


class Budget:
    """A number of bytes that threads share; what is larger than all of it gets all of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until there is room for so many bytes; who came first is served first."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or not self._fits(size):
                    self._changed.wait()
                self._used += size
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._total


_pixels, _files = Budget(_FOR_PIXELS), Budget(_FOR_FILES)
_of_thread = threading.local()


class decoding:  # used as a function: `with decoding() as room:`
    """The memory of one picture in this thread, from its file until it is resized.

    One within another is the outer one.
    """

    def __init__(self) -> None:
        self._of_file = self._of_pixels = self._depth = 0

    def __enter__(self) -> Self:
        room: Self = getattr(_of_thread, "room", None) or self
        room._depth += 1
        _of_thread.room = room
        return room

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        room: Self = _of_thread.room
        room._depth -= 1
        if room._depth:
            return
        _of_thread.room = None
        if room._of_pixels:
            _pixels.give(room._of_pixels)
        if room._of_file:
            _files.give(room._of_file)

    def take_file(self, size: int) -> None:
        """Wait for room for the bytes of the file."""
        # Always before that for the pixels, or two threads might wait for each other.
        if size > _SMALL and not self._of_file and not self._of_pixels:
            _files.take(size)
            self._of_file = size

    def take_pixels(self, size: int) -> None:
        """Wait for room for what decoding takes."""
        if self._of_pixels and size > self._of_pixels:  # another picture within the same block
            _pixels.give(self._of_pixels)
            self._of_pixels = 0
        if size > _SMALL and not self._of_pixels:
            _pixels.take(size)
            self._of_pixels = size


def _after_fork() -> None:
    # The threads that held it are not here, and its lock may be held for ever.
    global _pixels, _files
    _pixels, _files = Budget(_FOR_PIXELS), Budget(_FOR_FILES)
    _of_thread.room = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
