"""Small models and pictures to export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fic_export.fits.out_of_distribution import FittedScore
from fic_runtime.bundle.manifest import Known
from fic_runtime.heads.ood_scores import NearestNeighbour, normalised


def make_base(shape: tuple[int, ...] = (32, 32, 3), *, seed: int = 0, pooled: bool = True) -> Any:
    """Return a Keras model of two convolutions, which gives 6 numbers or maps of 6 channels."""
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    layer = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(image)
    layer = keras.layers.DepthwiseConv2D(3, padding="same")(layer)
    if pooled:
        layer = keras.layers.GlobalAveragePooling2D()(layer)
    return keras.Model(image, layer, name="base")


def make_head(shape: tuple[int, ...] = (6,), *, classes: int = 3, seed: int = 1) -> Any:
    """Return a Keras model of one dense layer."""
    import keras

    keras.utils.set_random_seed(seed)
    bottleneck = keras.Input(shape)
    layer = keras.layers.Flatten()(bottleneck)
    layer = keras.layers.Dense(classes, activation="softmax")(layer)
    return keras.Model(bottleneck, layer, name="head")


def draw_pictures(folder: Path, count: int, suffixes: Sequence[str] = ("png",)) -> list[Path]:
    """Write soft pictures, all different and of different widths, and return their paths."""
    random = np.random.default_rng(0)
    files = [folder / f"{number}.{suffixes[number % len(suffixes)]}" for number in range(count)]
    for number, file in enumerate(files):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        assert cv2.imwrite(str(file), cv2.resize(coarse, (70 + number, 50)))
    return files


def known_score() -> FittedScore:
    """Return a fitted score, whose numbers are float16 in the bundle as in a real one."""
    random = np.random.default_rng(0)
    neighbours = normalised(random.normal(size=(9, 6))).astype(np.float16).astype(np.float32)
    known = Known(
        method="nearest_neighbour",
        threshold=0.25,
        file="known.npz",
        false_rejection=0.05,
        figures={
            "auroc": {"nearest_neighbour": {"held_out": 0.9, "foreign": 1.0}},
            "foreign_pictures": 9,
            "foreign_rejected": 1.0,
        },
    )
    return FittedScore(score=NearestNeighbour(neighbours=neighbours), known=known)
