"""Make a bundle that can explain: python tests/data/make_explaining_bundle.py

Its base sees how much redder, greener and bluer a place is than the rest of its colour, so what
speaks for the labels `red`, `green` and `blue` is where a picture has these colours.
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np

from fic_export import export_bundle
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

FOLDER = Path(__file__).parent / "explaining-bundle"
LABELS = ("red", "green", "blue")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=32, width=40, crop_fraction=1.0),
    pixels=Pixels(scale=(1 / 255,) * 3),
)


def main() -> None:
    """Write the folder `explaining-bundle`."""
    random = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as folder:
        pictures = [Path(folder) / f"{number}.png" for number in range(4)]
        for picture in pictures:
            cv2.imwrite(str(picture), random.integers(0, 256, (32, 40, 3), dtype=np.uint8))
        export_bundle(
            make_base(),
            make_head(),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            pictures=pictures,
            out=FOLDER,
            with_feature_map=True,
            origin={"base": "colours"},
        )


def make_base() -> keras.Model:
    """Return a base with a feature map of 8 x 10 places of 4 x 4 pixels."""
    image = keras.Input((32, 40, 3))
    colours = keras.layers.Conv2D(3, 4, strides=4, activation="relu")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(colours(image)))
    kernel = (1.5 * np.eye(3) - 0.5) / 16
    colours.set_weights([np.tile(kernel, (4, 4, 1, 1)).astype("f4"), np.zeros(3, "f4")])
    return model


def make_head() -> keras.Model:
    """Return a linear head with a standardisation before it, as fic's own."""
    bottleneck = keras.Input((3,))
    layer = keras.layers.Rescaling(10.0)(bottleneck)
    layer = keras.layers.Normalization(mean=(1.0, 2.0, 3.0), variance=(1.0, 2.0, 4.0))(layer)
    dense = keras.layers.Dense(3, activation="softmax")
    head = keras.Model(bottleneck, dense(layer))
    kernel = 3.0 * np.eye(3) + np.arange(3) / 10
    dense.set_weights([kernel.astype("f4"), np.array((0.1, -0.2, 0.3), "f4")])
    return head


if __name__ == "__main__":
    main()
