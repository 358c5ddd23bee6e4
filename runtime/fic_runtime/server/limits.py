"""What a server takes on."""

import os
from dataclasses import dataclass, field

from ..images.headers import chosen_max_pixels


def _max_pixels() -> int:
    # What holds everywhere where it is set, and less than elsewhere where not: clients are strange.
    return chosen_max_pixels(None) if os.environ.get("FIC_MAX_PIXELS") else 2**25


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server, safe for clients that nobody knows.

    Attributes:
        workers: pictures that are worked on at the same time; by default one for each processor
            that this process may use.
        batch_size: the most pictures that are computed at once; by default 1 on the CPU and 32 on
            other devices.
        max_bytes: of the body of one request.
        max_pixels: of one picture, whose header is read before anything is decoded; FIC_MAX_PIXELS
            or 33 554 432 by default.
        max_pictures: in one request.
        max_queue: pictures that wait for a worker; 16 for each worker, and 32 at least, by default.
            One more is answered by 503 at once.
        max_held_bytes: of all bodies that are in memory at one time.
        max_connections: open at one time. One more takes the place of the one that has waited
            longest for a whole request.
        header_seconds: from the first byte of a request, or from the opening of a connection, to
            the end of its header.
        body_seconds: from the end of the header to the end of the body.
        idle_seconds: for which a connection without a request is kept; longer than the 60 s after
            which usual proxies give up theirs, or they would meet a closed one.
    """

    workers: int | None = None
    batch_size: int | None = None
    max_bytes: int = 20 * 2**20
    max_pixels: int = field(default_factory=_max_pixels)
    max_pictures: int = 16
    max_queue: int | None = None
    max_held_bytes: int = 256 * 2**20
    max_connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: int = 75

    def queue_for(self, workers: int) -> int:
        """Return how many pictures may wait for so many workers."""
        return max(32, 16 * workers) if self.max_queue is None else self.max_queue
