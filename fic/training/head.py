"""Train the head on bottlenecks, streamed batch by batch.

Model, loss and optimizer are Keras's. The loop is fic's own (`fic.training.epochs`), because the
upkeep of Keras's `fit` costs more than the arithmetic of a head (`docs/why/training.md`).
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..data import Dataset
from ..data.dataset import Skipped
from ..options import TrainingOptions
from ..progress import EpochFigures, Progress
from .data import TrainingData
from .epochs import TrainingPass, Validation, take_steps, train_epochs, validation_of
from .objective import decayed_weights, training_objective


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, and loss and accuracy of every epoch.

    `skipped` are the training pictures that could not be read any more, each once.
    """

    model: keras.Model
    history: list[EpochFigures]
    best_epoch: int
    skipped: Sequence[Skipped] = ()


def train_head(
    head: keras.Model,
    train: TrainingData,
    val: TrainingData,
    options: TrainingOptions,
    progress: Progress,
) -> TrainedHead:
    """Train a head on the cross entropy and leave it as it was after the best epoch.

    The same seed, head, bottlenecks and machine give the same result.

    Raises:
        TrainingError: the loss is not a number any more.
    """
    rate = f"--lr than {options.resolved().learning_rate:g}"
    learner = _HeadLearner(head, train, val, options)
    epochs = range(1, options.epochs + 1)
    done = train_epochs(learner, epochs, options, progress, learning_rate=rate)
    return TrainedHead(head, done.history, done.best_epoch, done.skipped)


def probabilities(head: keras.Model, bottlenecks: TrainingData) -> NDArray[Any]:
    """Return the head's answers for the plain view of each picture, (pictures, classes)."""
    with closing(bottlenecks.plain()) as plain:
        blocks = [np.asarray(head.predict_on_batch(block)) for block in plain]
    return np.concatenate(blocks) if blocks else np.empty((0, head.output_shape[-1]), np.float32)


class _HeadLearner:
    """The head with the bottlenecks that it is trained and validated on."""

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
        return take_steps(self._step, self._train.epoch(self._random, self._batch_size))

    def validate(self) -> Validation:
        return validation_of(probabilities(self._head, self._val), self._val.targets)

    def weights(self) -> list[NDArray[Any]]:
        weights: list[NDArray[Any]] = self._head.get_weights()
        return weights

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
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
        pulled = {each.path for each in decayed_weights(head)}
        optimizer.exclude_from_weight_decay(
            var_list=[each for each in head.trainable_variables if each.path not in pulled]
        )
        return optimizer
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    return keras.optimizers.get(
        {"class_name": options.optimizer, "config": {"learning_rate": rate}}
    )
