"""A small classifier with pictures, which the tests of quantization share."""

import gc

import cv2
import numpy as np
import pytest

from fic_export.conversion import convert_base
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing


@pytest.fixture(scope="session")
def preprocessing():
    return Preprocessing(
        geometry=Geometry(height=32, width=32),
        pixels=Pixels(scale=(1 / 128,) * 3, offset=(-1.0,) * 3),
    )


@pytest.fixture(scope="session")
def models():
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    layer = keras.layers.ZeroPadding2D(1)(image)
    layer = keras.layers.Conv2D(8, 3, strides=2, activation="relu6")(layer)
    before = layer
    layer = keras.layers.DepthwiseConv2D(3, padding="same")(layer)
    layer = keras.layers.Add()([layer, before])
    layer = keras.layers.Conv2D(16, 1, activation="relu")(layer)
    base = keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer), name="base")
    bottleneck = keras.Input((16,))
    dense = keras.layers.Dense(3, activation="softmax")
    head = keras.Model(bottleneck, dense(bottleneck), name="head")
    # So that the probabilities say something about the bottleneck.
    dense.set_weights([10 * dense.get_weights()[0], np.zeros(3, np.float32)])
    gc.freeze()
    yield base, head
    gc.unfreeze()


@pytest.fixture(scope="session")
def graph(models, preprocessing):
    return convert_base(models[0], preprocessing)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    files = []
    for number in range(24):
        coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        files.append(folder / f"{number}.png")
        cv2.imwrite(str(files[-1]), cv2.resize(coarse, (60, 48)))
    return files


@pytest.fixture(scope="session")
def images(pictures, preprocessing):
    return [load_image(file, preprocessing.geometry) for file in pictures[12:]]
