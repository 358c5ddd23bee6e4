"""A few pictures with their recorded results, so that a device can be tested without a data set.

The pictures are drawn from a seed and not taken from the user's photos: a bundle goes to many
devices, and photos are private.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fic_runtime.classifier import Classifier
from fic_runtime.images import load_image

_PICTURES = 3
_SEED = 20180601


def write_golden(path: Path, bundle: Path) -> None:
    """Write `golden.npz` with the results of the bundle's own graphs on the CPU.

    `picture` holds the bytes of a PNG larger than the input, whose pixels after decode and resize
    are `images[0]`; `images` is uint8 (n, height, width, 3), `bottlenecks` and `probabilities`
    are float32.
    """
    # One thread: the order of the sums, and so the bytes, do not depend on the number of cores.
    with Classifier(bundle, device="cpu", threads=1) as classifier:
        geometry = classifier.manifest.preprocessing.geometry
        random = np.random.default_rng(_SEED)
        # Not a multiple of the input and of another shape, so that resizing has work to do.
        drawn = [_draw(random, geometry.height + 57, geometry.width + 93) for _ in range(_PICTURES)]
        images = np.stack([load_image(picture, geometry) for picture in drawn])
        bottlenecks, probabilities = classifier.run(images)
    _, encoded = cv2.imencode(".png", drawn[0][..., ::-1])
    np.savez_compressed(
        path,
        picture=encoded.ravel(),
        images=images,
        bottlenecks=bottlenecks,
        probabilities=probabilities,
    )


def _draw(random: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    """Return a picture with soft colours and a few sharp shapes, uint8 RGB."""
    soft = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = (int(random.integers(width)), int(random.integers(height)))
        colour = [int(value) for value in random.integers(0, 256, 3)]
        radius = int(random.integers(4, max(6, min(height, width) // 5)))
        cv2.circle(picture, centre, radius, colour, thickness=-1)
    return np.asarray(picture, np.uint8)
