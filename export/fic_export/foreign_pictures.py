"""Pictures that show nothing: noise, gradients, stripes, soft colours and shapes, from a seed."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from fic_runtime.preprocessing import Geometry

from .drawn_pictures import draw

_SEED = 20171108
_OF_EACH = 12


def foreign_pictures(geometry: Geometry) -> list[np.ndarray[Any, Any]]:
    """Return pictures of the input's size, uint8 RGB (height, width, 3), the same each time."""
    random = np.random.default_rng(_SEED)
    size = geometry.height, geometry.width
    return [make(random, *size) for _ in range(_OF_EACH) for make in _MAKERS]


def _noise(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _blur(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    rows, columns = random.integers(2, 40, 2)
    coarse = random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(soft, np.uint8)


def _gradient(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    return _between(random, _ramp(random, height, width))


def _stripes(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    waves = random.uniform(2, 40)
    return _between(random, 0.5 + 0.5 * np.sin(2 * np.pi * waves * _ramp(random, height, width)))


def _ramp(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    """Return 0 to 1 in some direction, (height, width)."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    return np.asarray((along - along.min()) / max(float(np.ptp(along)), 1.0))


def _between(random: np.random.Generator, amount: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    one, other = random.integers(0, 256, (2, 3))
    return np.asarray(one + (other - one) * amount[..., None], np.uint8)


_MAKERS: tuple[Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]], ...] = (
    _noise,
    _blur,
    _gradient,
    _stripes,
    draw,
)
