"""How many threads call a graph at the same time."""

import threading
import time

_SECONDS_TO_REMEMBER = 0.2  # between two crowds; between two runs of one there is always a gap


class Callers:
    """The threads that run one graph, counted: `with callers as are_many`.

    Many are half as many as the threads of the graph or more, and two at least: then each does
    better with one thread of its own than with all of them, for which it would wait.
    """

    def __init__(self, threads: int) -> None:
        self._many = max(2, threads // 2)
        self._counting = threading.Lock()
        self._now = 0
        self._many_until = 0.0

    def __enter__(self) -> bool:
        now = time.monotonic()
        with self._counting:
            self._now += 1
            if self._now >= self._many:
                self._many_until = now + _SECONDS_TO_REMEMBER
            return now < self._many_until

    def __exit__(self, *_: object) -> None:
        with self._counting:
            self._now -= 1
