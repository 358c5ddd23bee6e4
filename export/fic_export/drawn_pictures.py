"""Pictures drawn from a seed, for where photos are private or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from fic_runtime.preprocessing import Geometry

_SEED = 20261124
_COUNT = 32


def draw(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    """Return a picture with soft colours and a few sharp shapes, uint8 RGB (height, width, 3)."""
    soft = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = (int(random.integers(width)), int(random.integers(height)))
        colour = [int(value) for value in random.integers(0, 256, 3)]
        radius = int(random.integers(4, max(6, min(height, width) // 5)))
        cv2.circle(picture, centre, radius, colour, thickness=-1)
    return np.asarray(picture, np.uint8)


@contextmanager
def drawn_files(geometry: Geometry) -> Iterator[list[Path]]:
    """Give image files, PNG and JPEG, smaller and larger than the input, while the block runs."""
    random = np.random.default_rng(_SEED)
    with TemporaryDirectory(prefix="fic-drawn-") as folder:
        files = [
            Path(folder) / f"drawn-{number:02}.{'jpg' if number % 2 else 'png'}"
            for number in range(_COUNT)
        ]
        for file in files:
            # From half the input's size to three times it, each side on its own.
            height, width = (
                max(8, int(side * random.uniform(0.5, 3)))
                for side in (geometry.height, geometry.width)
            )
            file.write_bytes(cv2.imencode(file.suffix, draw(random, height, width))[1].tobytes())
        yield files
