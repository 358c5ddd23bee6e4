"""Views: altered versions of a training picture, the same every time.

A view depends on the picture's content and the view's number alone, so its bottleneck can be
cached like the plain picture's. View 0 is the plain picture.
"""

from typing import Any

import numpy as np

from fic_runtime.images import resize_image
from fic_runtime.preprocessing import Geometry

from ..digests import digest_bytes

# The recipe. Whenever it changes, change its name in `fic.cache.keys`: cached views depend on it.
_SMALLEST_AREA = 0.6  # of the picture that a crop keeps
_ASPECT = 0.85  # of width to height of a crop, relative to the picture's: 0.85 .. 1/0.85
_BRIGHTNESS = 0.15  # largest relative change
_CONTRAST = 0.15
_SATURATION = 0.20


def draw_view(
    image: np.ndarray[Any, Any],
    digest: bytes,
    view: int,
    geometry: Geometry,
    *,
    out: np.ndarray[Any, Any],
) -> None:
    """Write view number `view` of a decoded picture into `out`, uint8 (height, width, 3).

    From view 1 on each is a random crop with changed brightness, contrast and saturation, drawn
    from the picture's digest; odd views are mirrored, so two views already hold both sides.
    """
    if view == 0:
        resize_image(image, geometry, out=out)
        return
    seed = digest_bytes(digest + view.to_bytes(4, "big"))
    random = np.random.default_rng(int.from_bytes(seed, "big"))
    cropped = _crop(image, random)
    resize_image(cropped[:, ::-1] if view % 2 else cropped, geometry, out=out)
    # After resizing, so that the cost does not depend on the size of the photo.
    out[:] = _color_jitter(out, random)


def _crop(image: np.ndarray[Any, Any], random: np.random.Generator) -> np.ndarray[Any, Any]:
    height, width = image.shape[:2]
    area = random.uniform(_SMALLEST_AREA, 1.0)
    aspect = np.exp(random.uniform(np.log(_ASPECT), -np.log(_ASPECT)))
    crop_height = max(1, min(height, round(height * np.sqrt(area / aspect))))
    crop_width = max(1, min(width, round(width * np.sqrt(area * aspect))))
    top = int(random.integers(height - crop_height + 1))
    left = int(random.integers(width - crop_width + 1))
    crop: np.ndarray[Any, Any] = image[top : top + crop_height, left : left + crop_width]
    return crop


def _color_jitter(image: np.ndarray[Any, Any], random: np.random.Generator) -> np.ndarray[Any, Any]:
    brightness, contrast, saturation = (
        np.float32(1 + random.uniform(-most, most))
        for most in (_BRIGHTNESS, _CONTRAST, _SATURATION)
    )
    pixels = image.astype(np.float32) * brightness
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * saturation
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * contrast
    jittered: np.ndarray[Any, Any] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return jittered
