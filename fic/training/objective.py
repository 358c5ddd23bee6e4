"""Loss of the training, of the head alone and in fine-tuning."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ..data import Dataset
from ..heads.building import STANDARDIZE
from ..options import TrainingOptions
from .class_weights import class_weights

# From answers (n, classes) and targets (n,) to the losses of the pictures (n,) and the whole loss.
Objective = Callable[[Any, Any], tuple[Any, Any]]


def training_objective(
    head: keras.Model, pictures: Dataset, options: TrainingOptions, *, decay: float
) -> Objective:
    """Return the cross entropy of pictures, weighted and smoothed as the options say.

    The whole loss is its mean, what the head's layers add to it themselves, and `decay` times half
    the squared weights of the new layers.
    """
    weights = class_weights(pictures, options)
    pulled = decayed_weights(head)

    def objective(answers: Any, targets: Any) -> tuple[Any, Any]:
        losses = keras.losses.categorical_crossentropy(
            tf.one_hot(targets, len(weights)), answers, label_smoothing=options.label_smoothing
        )
        losses *= tf.gather(weights, targets)
        squares = sum(tf.nn.l2_loss(weight) for weight in pulled)
        return losses, tf.reduce_mean(losses) + decay * squares + sum(head.losses)

    return objective


def decayed_weights(head: keras.Model) -> list[Any]:
    """Return the weights that decay: those of new layers, without biases."""
    names = [layer.name for layer in head.layers]
    # The layers of the base, in a head that is its rest, come before.
    new = head.layers[names.index(STANDARDIZE) :] if STANDARDIZE in names else head.layers
    return [weight for layer in new for weight in layer.trainable_weights if len(weight.shape) > 1]
