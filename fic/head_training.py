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

from .errors import TrainingError
from .event_files import EventFiles
from .heads import build_head
from .options import TrainingOptions
from .progress import EpochFigures, Progress
from .training_data import TrainingData


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, and loss and accuracy of every epoch."""

    model: keras.Model
    history: list[EpochFigures]
    best_epoch: int


def train_head(
    train: TrainingData, val: TrainingData, options: TrainingOptions, progress: Progress
) -> TrainedHead:
    """Train a head with Adam on the cross entropy; the epoch with the least validation loss wins.

    The same seed, bottlenecks and machine give the same head.

    Raises:
        TrainingError: the loss is not a number any more.
    """
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    mean, variance = _statistics(train)
    head = build_head(train.shape, len(train.classes), mean=mean, variance=variance)
    optimizer = keras.optimizers.Adam(options.learning_rate)
    step = _training_step(head, optimizer, options.weight_decay)
    history: list[EpochFigures] = []
    best, best_weights = None, head.get_weights()
    with EventFiles(options.logs) as events:
        for epoch in range(1, options.epochs + 1):
            loss, accuracy = _train_epoch(step, train, options.batch_size, random)
            val_loss, val_accuracy = _measure(head, val)
            for value in (loss, val_loss):
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss is {value} after epoch {epoch}; use a smaller --lr than "
                        f"{options.learning_rate:g}"
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
            if best is None or val_loss < best.val_loss:
                best, best_weights = figures, head.get_weights()
            elif options.patience and epoch - best.epoch >= options.patience:
                break
    head.set_weights(best_weights)
    return TrainedHead(head, history, best.epoch if best else 0)


def probabilities(head: keras.Model, bottlenecks: TrainingData) -> np.ndarray[Any, Any]:
    """Return the head's answers for the plain view of each picture, (pictures, classes)."""
    with closing(bottlenecks.plain()) as plain:
        blocks = [np.asarray(head.predict_on_batch(block)) for block in plain]
    return np.concatenate(blocks) if blocks else np.empty((0, head.output_shape[-1]), np.float32)


def _training_step(
    head: keras.Model, optimizer: keras.optimizers.Optimizer, weight_decay: float
) -> Any:
    """Return a compiled function from bottlenecks and classes to summed loss and right answers."""
    variables = head.trainable_variables
    optimizer.build(variables)
    bottleneck = tf.TensorSpec((None, *head.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[bottleneck, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator] # no types
    def step(bottlenecks: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            answers = head(bottlenecks, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(truth, answers)
            # Biases are vectors and stay free.
            squares = [tf.nn.l2_loss(each) for each in variables if len(each.shape) > 1]
            loss = tf.reduce_mean(losses) + weight_decay * sum(squares)
        optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.equal(tf.argmax(answers, axis=1), truth)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.float32))

    return step


def _train_epoch(
    step: Any, train: TrainingData, batch_size: int, random: np.random.Generator
) -> tuple[float, float]:
    """Show each picture once, in a new order, as one of its views; return loss and accuracy."""
    sums, count = np.zeros(2), 0
    with closing(train.epoch(random, batch_size)) as batches:
        for bottlenecks, truth in batches:
            sums += [float(each) for each in step(bottlenecks, truth)]
            count += len(truth)
    loss, accuracy = sums / count
    return float(loss), float(accuracy)


def _measure(head: keras.Model, val: TrainingData) -> tuple[float, float]:
    answers = probabilities(head, val)
    figures = keras.losses.sparse_categorical_crossentropy(val.truth, answers)
    return float(np.mean(figures)), float(np.mean(answers.argmax(axis=1) == val.truth))


def _statistics(train: TrainingData) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return mean and variance of each feature, maps averaged first."""
    total = np.zeros(train.shape[-1])
    squares = np.zeros(train.shape[-1])
    count = 0
    with closing(train.for_statistics()) as blocks:
        for block in blocks:
            features = block.mean(axis=tuple(range(1, block.ndim - 1)), dtype=np.float64)
            total += features.sum(axis=0)
            squares += np.square(features).sum(axis=0)
            count += len(features)
    mean = total / count
    return mean, np.maximum(squares / count - np.square(mean), 0.0)
