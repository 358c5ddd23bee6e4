"""Weights of the classes in the loss."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..options import TrainingOptions


def class_weights(pictures: Dataset, options: TrainingOptions) -> NDArray[Any]:
    """Return the weight of each class's pictures in the loss, float32 (classes,).

    Balanced, it is pictures / (classes with pictures * pictures of the class): 1 on average.
    """
    counts = np.array(pictures.counts, np.float32)
    if options.class_weights == "none":
        return np.ones(len(counts), np.float32)
    present = np.count_nonzero(counts)
    return np.asarray(counts.sum() / (np.maximum(counts, 1) * present), np.float32)
