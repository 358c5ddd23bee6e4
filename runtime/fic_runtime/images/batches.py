"""Pictures one after the other, decoded into batches of pixels."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError
from ..preprocessing import ChannelOrder, Geometry
from .loading import load_image

if TYPE_CHECKING:
    from .loading import ImageSource
    from .resizing import Pixels8


def pixel_batches(
    images: Iterable["ImageSource"],
    batch_size: int,
    geometry: Geometry,
    *,
    channel_order: ChannelOrder = "rgb",
    max_pixels: int | None = None,
) -> "Iterator[Pixels8]":
    """Yield the pixels of pictures, uint8 (up to `batch_size`, height, width, 3).

    One array is filled again and again: a batch is gone when the next one is asked for.

    Raises:
        ImageError: one is not a picture that can be classified; the message says which.
        TypeError: `images` is a single picture.
        ValueError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1; received {batch_size}")
    check_several(images)
    batch = np.empty((batch_size, geometry.height, geometry.width, 3), np.uint8)
    filled = 0
    for number, image in enumerate(images):
        try:
            load_image(
                image,
                geometry,
                channel_order=channel_order,
                max_pixels=max_pixels,
                out=batch[filled],
            )
        except ImageError as error:
            raise ImageError(f"picture {number}: {error}") from error
        filled += 1
        if filled == batch_size:
            yield batch
            filled = 0
    if filled:
        yield batch[:filled]


def check_several(images: Any) -> None:
    """Make sure that what should be many pictures is not a single one.

    Raises:
        TypeError: it is.
    """
    if _is_one_picture(images):
        raise TypeError("images is a series of pictures; for one picture use predict()")


def _is_one_picture(images: Any) -> bool:
    # An array of three dimensions would pass for a list of grey pictures, its rows.
    if isinstance(images, np.ndarray):
        return images.dtype != object and images.ndim < 4
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview):
        return True
    return hasattr(images, "getexif") or hasattr(images, "read")  # a file gives its lines
