"""Train any other head than those of dense layers: the rest of a base, and custom ones.

Model, loss and optimizer are Keras's. The loop is fic's own (`fic.training.epochs`), because the
upkeep of Keras's `fit` costs more than the arithmetic of a head (`docs/why/training.md`).
"""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..data import Dataset
from ..data.dataset import Skipped
from ..options import TrainingOptions
from .data import TrainingData
from .epochs import TrainingPass, Validation, take_steps, validation_of
from .metrics import answers_of
from .objective import decayed_weights, training_objective

# Steps in one call, and bytes of bottlenecks that it takes at most: the call into TensorFlow takes
# half a millisecond, and the step of a small head a third of one.
_MOST_STEPS = 16
_MOST_BYTES = 16 << 20

_Batches: TypeAlias = Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]


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
        self._steps = _training_steps(head, train.dataset, options)

    def train(self) -> TrainingPass:
        """Take a step for each batch of the training bottlenecks."""
        size = 4 * self._batch_size * math.prod(self._train.shape)
        most = max(1, min(_MOST_STEPS, _MOST_BYTES // size))
        batches = self._train.epoch(self._random, self._batch_size)
        return take_steps(self._steps, _together(batches, most))

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


def _together(batches: _Batches, most: int) -> _Batches:
    """Yield so many batches as one, one after the other in it."""
    waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []
    with closing(batches):
        while True:
            try:
                waiting.append(next(batches))
            except StopIteration as end:
                if waiting:
                    yield _joined(waiting)
                skipped: Sequence[Skipped] = end.value
                return skipped
            if len(waiting) == most:
                yield _joined(waiting)
                waiting.clear()


def _joined(batches: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Any:
    if len(batches) == 1:
        return batches[0]
    bottlenecks, targets = zip(*batches, strict=True)
    return np.concatenate(bottlenecks), np.concatenate(targets)


def _training_steps(head: keras.Model, pictures: Dataset, options: TrainingOptions) -> Any:
    """Return a compiled function that takes a step for each batch of bottlenecks and targets.

    It returns summed loss and right answers.
    """
    variables = head.trainable_variables
    optimizer = _optimizer(head, options)
    optimizer.build(variables)
    decay = 0.0 if options.optimizer == "adamw" else options.weight_decay
    objective = training_objective(head, pictures, options, decay=decay)
    bottleneck = tf.TensorSpec((None, *head.input_shape[1:]), tf.float32)

    def step(bottlenecks: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            answers = head(bottlenecks, training=True)
            losses, loss = objective(answers, targets)
        optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.equal(tf.argmax(answers, axis=1), targets)
        figures = tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.float32))
        return tf.cast(tf.stack(figures), tf.float64)

    @tf.function(input_signature=[bottleneck, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator] # no types
    def steps(bottlenecks: Any, targets: Any) -> Any:
        count = tf.shape(targets)[0]

        def take(start: Any, sums: Any) -> Any:
            stop = start + options.batch_size
            return stop, sums + step(bottlenecks[start:stop], targets[start:stop])

        begin = tf.constant(0), tf.zeros(2, tf.float64)
        _, sums = tf.while_loop(lambda start, _: start < count, take, begin, parallel_iterations=1)
        return sums

    return steps


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
