"""The loss that training makes small, of the head alone and in fine-tuning."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data import Dataset
from ..heads.building import STANDARDISE
from ..options import TrainingOptions

# From answers (n, classes) and targets (n,) to the losses of the pictures (n,) and the whole loss.
Objective = Callable[[Any, Any], tuple[Any, Any]]


def training_objective(
    head: keras.Model, pictures: Dataset, options: TrainingOptions, *, decay: float
) -> Objective:
    """Return the cross entropy of pictures, weighted and smoothed as the options say.

    The whole loss is its mean, what the head's layers add to it themselves, and `decay` times half
    the squared weights of what is new in the head.
    """
    weights = class_weights(pictures, options)
    pulled = decayed_weights(head)

    def objective(answers: Any, targets: Any) -> tuple[Any, Any]:
        losses = keras.losses.categorical_crossentropy(
            tf.one_hot(targets, len(weights)), answers, label_smoothing=options.label_smoothing
        )
        losses *= tf.gather(weights, targets)
        squares = sum(tf.nn.l2_loss(each) for each in pulled)
        return losses, tf.reduce_mean(losses) + decay * squares + sum(head.losses)

    return objective


def class_weights(pictures: Dataset, options: TrainingOptions) -> np.ndarray[Any, Any]:
    """Return the weight of each class's pictures in the loss, float32 (classes,).

    Balanced, it is pictures / (classes with pictures * pictures of the class): 1 on average.
    """
    counts = np.array(pictures.counts, np.float32)
    if options.class_weights == "none":
        return np.ones(len(counts), np.float32)
    present = np.count_nonzero(counts)
    return np.asarray(counts.sum() / (np.maximum(counts, 1) * present), np.float32)


def decayed_weights(head: keras.Model) -> list[Any]:
    """Return the weights that decay: of what is new, and biases stay free, which are vectors."""
    names = [layer.name for layer in head.layers]
    # The layers of the base, in a head that is its rest, come before.
    new = head.layers[names.index(STANDARDISE) :] if STANDARDISE in names else head.layers
    return [each for layer in new for each in layer.trainable_weights if len(each.shape) > 1]
