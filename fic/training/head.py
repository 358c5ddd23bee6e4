"""Train the head on bottlenecks, streamed batch by batch.

Model, loss and optimiser are Keras's. The loop is our own: `fit` spends several times as long on
its own upkeep as a head of one layer needs for its arithmetic (`benchmarks/head_training.py`).
"""

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data import Dataset
from ..errors import TrainingError
from ..options import TrainingOptions
from ..progress import EpochFigures, Progress
from .data import TrainingData
from .event_files import EventFiles
from .objective import decayed_weights, merit, training_objective


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, and loss and accuracy of every epoch."""

    model: keras.Model
    history: list[EpochFigures]
    best_epoch: int


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
    random = np.random.default_rng(options.seed)
    step = _training_step(head, train.dataset, options)
    history: list[EpochFigures] = []
    best: EpochFigures | None = None
    best_merit: tuple[float, ...] = ()
    best_weights = head.get_weights()
    with EventFiles(options.logs) as events:
        for epoch in range(1, options.epochs + 1):
            loss, accuracy = _train_epoch(step, train, options.batch_size, random)
            val_loss, val_accuracy = _measure(head, val)
            for value in (loss, val_loss):
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss is {value} after epoch {epoch}; use a smaller --lr than "
                        f"{options.resolved().learning_rate:g}"
                    )
            figures = EpochFigures(
                epoch=epoch,
                loss=loss,
                accuracy=accuracy,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
            )
            history.append(figures)
            events.write(figures)
            progress.epoch(figures, options.epochs)
            reached = merit(val_loss, val_accuracy, options)
            if best is None or reached > best_merit:
                best, best_merit, best_weights = figures, reached, head.get_weights()
            elif options.patience and epoch - best.epoch >= options.patience:
                break
    head.set_weights(best_weights)
    return TrainedHead(head, history, best.epoch if best else 0)


def probabilities(head: keras.Model, bottlenecks: TrainingData) -> np.ndarray[Any, Any]:
    """Return the head's answers for the plain view of each picture, (pictures, classes)."""
    with closing(bottlenecks.plain()) as plain:
        blocks = [np.asarray(head.predict_on_batch(block)) for block in plain]
    return np.concatenate(blocks) if blocks else np.empty((0, head.output_shape[-1]), np.float32)


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


def _train_epoch(
    step: Any, train: TrainingData, batch_size: int, random: np.random.Generator
) -> tuple[float, float]:
    """Show each picture once, in a new order, as one of its views; return loss and accuracy."""
    sums, count = np.zeros(2), 0
    with closing(train.epoch(random, batch_size)) as batches:
        for bottlenecks, targets in batches:
            sums += [float(each) for each in step(bottlenecks, targets)]
            count += len(targets)
    loss, accuracy = sums / count
    return float(loss), float(accuracy)


def _measure(head: keras.Model, val: TrainingData) -> tuple[float, float]:
    answers = probabilities(head, val)
    figures = keras.losses.sparse_categorical_crossentropy(val.targets, answers)
    return float(np.mean(figures)), float(np.mean(answers.argmax(axis=1) == val.targets))
