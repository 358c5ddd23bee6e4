"""Pictures drawn from a seed: shapes to compare graphs on, and outliers that show nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fic_runtime.preprocessing import Geometry

_SEED = 20261124
_COUNT = 32


_OUTLIER_SEED = 20171108
_OF_EACH = 12


def draw(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
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


def outlier_pictures(geometry: Geometry) -> list[NDArray[Any]]:
    """Return pictures that show nothing, uint8 RGB (height, width, 3), the same each time."""
    random = np.random.default_rng(_OUTLIER_SEED)
    size = geometry.height, geometry.width
    return [make(random, *size) for _ in range(_OF_EACH) for make in _MAKERS]


def _noise(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _blur(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    rows, columns = random.integers(2, 40, 2)
    coarse = random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(soft, np.uint8)


def _gradient(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    return _between(random, _ramp(random, height, width))


def _stripes(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    waves = random.uniform(2, 40)
    return _between(random, 0.5 + 0.5 * np.sin(2 * np.pi * waves * _ramp(random, height, width)))


def _ramp(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    """Return 0 to 1 in some direction, (height, width)."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    return np.asarray((along - along.min()) / max(float(np.ptp(along)), 1.0))


def _between(random: np.random.Generator, amount: NDArray[Any]) -> NDArray[Any]:
    one, other = random.integers(0, 256, (2, 3))
    return np.asarray(one + (other - one) * amount[..., None], np.uint8)


_MAKERS: tuple[Callable[[np.random.Generator, int, int], NDArray[Any]], ...] = (
    _noise,
    _blur,
    _gradient,
    _stripes,
    draw,
)
