"""Train any other head than those of dense layers: the rest of a base, and custom ones.

Model, loss and optimizer are Keras's. The loop is fic's own (`fic.training.epochs`), because the
upkeep of Keras's `fit` costs more than the arithmetic of a head (`docs/why/training.md`).
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..data import Dataset
from ..options import TrainingOptions
from .data import TrainingData
from .epochs import TrainingPass, Validation, take_steps, validation_of
from .metrics import answers_of
from .objective import decayed_weights, training_objective


class KerasLearner:
    """A Keras model with the bottlenecks that it is trained and validated on."""

    def __init__(
        self,
        head: keras.Model,
        train: TrainingData,
        val: TrainingData,
        options: TrainingOptions,
    ) -> None:
        self._head = head
        self._train = train
        self._val = val
        self._batch_size = options.batch_size
        self._random = np.random.default_rng(options.seed)
        self._step = _training_step(head, train.dataset, options)

    def train(self) -> TrainingPass:
        """Take a step for each batch of the training bottlenecks."""
        return take_steps(self._step, self._train.epoch(self._random, self._batch_size))

    def validate(self) -> Validation:
        """Measure the head on the validation bottlenecks."""
        blocks = (np.asarray(self._head.predict_on_batch(block)) for block in self._val.plain())
        return validation_of(answers_of(blocks, self._val.targets))

    def weights(self) -> list[NDArray[Any]]:
        """Return copies of the weights."""
        weights: list[NDArray[Any]] = self._head.get_weights()
        return weights

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take back what `weights` returned."""
        self._head.set_weights(weights)


def _training_step(head: keras.Model, pictures: Dataset, options: TrainingOptions) -> Any:
    """Return a compiled function from bottlenecks and targets to summed loss and right answers."""
    variables = head.trainable_variables
    optimizer = _optimizer(head, options)
    optimizer.build(variables)
    decay = 0.0 if options.optimizer == "adamw" else options.weight_decay
    objective = training_objective(head, pictures, options, decay=decay)
    bottleneck = tf.TensorSpec((None, *head.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[bottleneck, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator] # no types
    def step(bottlenecks: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            answers = head(bottlenecks, training=True)
            losses, loss = objective(answers, targets)
        optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.equal(tf.argmax(answers, axis=1), targets)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.float32))

    return step


def _optimizer(head: keras.Model, options: TrainingOptions) -> keras.optimizers.Optimizer:
    rate = options.resolved().learning_rate
    if options.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay)
        pulled = {weight.path for weight in decayed_weights(head)}
        optimizer.exclude_from_weight_decay(
            var_list=[weight for weight in head.trainable_variables if weight.path not in pulled]
        )
        return optimizer
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    return keras.optimizers.get(
        {"class_name": options.optimizer, "config": {"learning_rate": rate}}
    )
