"""The trainable part: from a bottleneck to the probabilities of the classes."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

BOTTLENECK = "bottleneck"
PROBABILITIES = "probabilities"


def build_head(
    shape: Sequence[int],
    classes: int,
    *,
    mean: np.ndarray[Any, Any],
    variance: np.ndarray[Any, Any],
) -> keras.Model:
    """Return a linear classifier of bottlenecks of `shape`; feature maps are averaged first.

    Args:
        shape: of one bottleneck, (features,) or (height, width, features).
        classes: number of outputs.
        mean: of each feature over the training bottlenecks, shape (features,).
        variance: likewise, of any magnitude.
    """
    # In units of the typical deviation, because Keras takes a deviation below 1e-7 for zero and
    # the bottlenecks of random weights are as small as 1e-18.
    unit = float(np.sqrt(variance.mean())) or 1.0
    # One unit on top, so that a feature that hardly ever moves is not blown up to the size of the
    # others: 1 to 3 points of accuracy on the flowers (docs/decisions.md).
    mean, variance = mean / unit, variance / unit**2 + 1.0
    bottleneck = keras.Input(tuple(shape), name=BOTTLENECK)
    features = bottleneck
    if len(shape) == 3:
        features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    features = keras.layers.Rescaling(1 / unit, name="unit")(features)
    features = keras.layers.Normalization(
        mean=mean.astype(np.float32), variance=variance.astype(np.float32), name="standardise"
    )(features)
    outputs = keras.layers.Dense(classes, activation="softmax", name=PROBABILITIES)(features)
    return keras.Model(bottleneck, outputs, name="head")
