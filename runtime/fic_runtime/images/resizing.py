"""From a decoded picture to the size of the base's input."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..preprocessing import Geometry

Pixels8: TypeAlias = NDArray[np.uint8]


def resize_image(image: Pixels8, geometry: Geometry, *, out: Pixels8 | None = None) -> Pixels8:
    """Return uint8 pixels of shape (geometry.height, geometry.width, 3), contiguous.

    `stretch` resizes both axes at will. `crop` first takes the central part that has the target's
    aspect ratio: `crop_fraction` of the largest one. `pad` fits the whole picture in the middle of
    black. Each axis that shrinks is averaged by area; then each that grows is interpolated
    linearly.

    Args:
        image: uint8 RGB, shape (h, w, 3).
        geometry: the size and the way.
        out: where to write, such as one row of a batch; a new array by default.
    """
    shape = (geometry.height, geometry.width, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous uint8 of shape {shape}")
    if geometry.resize == "crop":
        top, left, rows, columns = central_part(image.shape[0], image.shape[1], geometry)
        _stretch(image[top : top + rows, left : left + columns], out)
    elif geometry.resize == "pad":
        top, left, rows, columns = fitted_part(image.shape[0], image.shape[1], geometry)
        out[...] = 0
        fitted = _stretch(image, np.empty((rows, columns, 3), np.uint8))
        out[top : top + rows, left : left + columns] = fitted
    else:
        _stretch(image, out)
    return out


def central_part(height: int, width: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Return the part of a picture that `crop` takes: top, left, rows and columns."""
    scale = geometry.crop_fraction * min(height / geometry.height, width / geometry.width)
    rows = min(max(round(scale * geometry.height), 1), height)
    columns = min(max(round(scale * geometry.width), 1), width)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def fitted_part(height: int, width: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Return the part of the input where `pad` lays a picture: top, left, rows and columns."""
    scale = min(geometry.height / height, geometry.width / width)
    rows = min(max(round(scale * height), 1), geometry.height)
    columns = min(max(round(scale * width), 1), geometry.width)
    return (geometry.height - rows) // 2, (geometry.width - columns) // 2, rows, columns


def _stretch(image: Pixels8, out: Pixels8) -> Pixels8:
    import cv2

    height, width = out.shape[:2]
    source: Any = image
    # One axis at a time where they differ: OpenCV takes one interpolation for both.
    shrunk = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrunk == (width, height):
        cv2.resize(image, shrunk, dst=out, interpolation=cv2.INTER_AREA)
        return out
    source = cv2.resize(source, shrunk, interpolation=cv2.INTER_AREA)
    cv2.resize(source, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return out
