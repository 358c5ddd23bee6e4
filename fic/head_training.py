"""Train the head on cached bottlenecks, streamed from the cache batch by batch.

Model, loss and optimiser are Keras's. The loop is our own: `fit` spends several times as long on
its own upkeep as a head of one layer needs for its arithmetic (`benchmarks/head_training.py`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .bottlenecks import Bottlenecks
from .errors import TrainingError
from .heads import STANDARDISE
from .options import TrainingOptions
from .progress import EpochFigures, Progress

# Rows read at once for evaluation.
_BLOCK = 512


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, and loss and accuracy of every epoch."""

    model: keras.Model
    history: list[EpochFigures]
    best_epoch: int


def train_head(
    head: keras.Model,
    train: Bottlenecks,
    val: Bottlenecks,
    options: TrainingOptions,
    progress: Progress,
) -> TrainedHead:
    """Train a head on the cross entropy and leave it as it was after the best epoch.

    The same seed, head, bottlenecks and machine give the same result.

    Raises:
        TrainingError: the loss is not a number any more.
    """
    random = np.random.default_rng(options.seed)
    step = _training_step(head, options, class_weights(train, options))
    history: list[EpochFigures] = []
    best, best_weights = None, head.get_weights()
    with _EventFiles(options.logs) as events:
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
            if best is None or _merit(figures, options) > _merit(best, options):
                best, best_weights = figures, head.get_weights()
            elif options.patience and epoch - best.epoch >= options.patience:
                break
    head.set_weights(best_weights)
    return TrainedHead(head, history, best.epoch if best else 0)


def class_weights(train: Bottlenecks, options: TrainingOptions) -> np.ndarray[Any, Any]:
    """Return the weight of each class's pictures in the loss, float32 (classes,).

    Balanced, it is pictures / (classes with pictures * pictures of the class): 1 on average.
    """
    counts = np.array(train.dataset.counts, np.float32)
    if options.class_weights == "none":
        return np.ones(len(counts), np.float32)
    present = np.count_nonzero(counts)
    return np.asarray(counts.sum() / (np.maximum(counts, 1) * present), np.float32)


def probabilities(head: keras.Model, bottlenecks: Bottlenecks) -> np.ndarray[Any, Any]:
    """Return the head's answers for the plain view of each picture, (pictures, classes)."""
    blocks = [
        np.asarray(head.predict_on_batch(bottlenecks.read(rows)))
        for rows in _blocks(bottlenecks.rows[:, 0], _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, head.output_shape[-1]), np.float32)


def _merit(figures: EpochFigures, options: TrainingOptions) -> tuple[float, ...]:
    """Return what is higher for a better epoch."""
    if options.monitor == "loss":
        return (-figures.val_loss,)
    # Accuracy moves in steps of one picture, so epochs often have the same.
    return figures.val_accuracy, -figures.val_loss


def _training_step(
    head: keras.Model, options: TrainingOptions, weights: np.ndarray[Any, Any]
) -> Any:
    """Return a compiled function from bottlenecks and classes to summed loss and right answers."""
    variables = head.trainable_variables
    optimizer = _optimizer(options)
    optimizer.build(variables)
    decay = 0.0 if options.optimizer == "adamw" else options.weight_decay
    decayed = _decayed(head)
    classes = head.output_shape[-1]
    bottleneck = tf.TensorSpec((None, *head.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[bottleneck, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator] # no types
    def step(bottlenecks: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            answers = head(bottlenecks, training=True)
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(truth, classes), answers, label_smoothing=options.label_smoothing
            )
            losses *= tf.gather(weights, truth)
            loss = tf.reduce_mean(losses)
            loss += decay * sum(tf.nn.l2_loss(each) for each in decayed)
            loss += sum(head.losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.equal(tf.argmax(answers, axis=1), truth)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.float32))

    return step


def _optimizer(options: TrainingOptions) -> keras.optimizers.Optimizer:
    rate = options.resolved().learning_rate
    if options.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    return keras.optimizers.get(
        {"class_name": options.optimizer, "config": {"learning_rate": rate}}
    )


def _decayed(head: keras.Model) -> list[Any]:
    """Return the weights that decay: of what is new, and biases stay free, which are vectors."""
    names = [layer.name for layer in head.layers]
    # The layers of the base, in a head that is its rest, come before.
    new = head.layers[names.index(STANDARDISE) :] if STANDARDISE in names else head.layers
    return [each for layer in new for each in layer.trainable_weights if len(each.shape) > 1]


def _train_epoch(
    step: Any, train: Bottlenecks, batch_size: int, random: np.random.Generator
) -> tuple[float, float]:
    """Show each picture once, in a new order, as one of its views; return loss and accuracy."""
    count, views = train.rows.shape
    order = random.permutation(count)
    rows = train.rows[order, random.integers(views, size=count)]
    truth = train.truth[order]
    sums = np.zeros(2)
    for start in range(0, count, batch_size):
        batch = slice(start, start + batch_size)
        sums += [float(each) for each in step(train.read(rows[batch]), truth[batch])]
    loss, accuracy = sums / count
    return float(loss), float(accuracy)


def _measure(head: keras.Model, val: Bottlenecks) -> tuple[float, float]:
    answers = probabilities(head, val)
    figures = keras.losses.sparse_categorical_crossentropy(val.truth, answers)
    return float(np.mean(figures)), float(np.mean(answers.argmax(axis=1) == val.truth))


class _EventFiles:
    """Writes each epoch's figures as TensorBoard events, without needing TensorBoard itself."""

    def __init__(self, folder: Path | None) -> None:
        self._writers = (
            {}
            if folder is None
            else {
                kind: tf.summary.create_file_writer(str(folder / kind))
                for kind in ("train", "validation")
            }
        )

    def __enter__(self) -> "_EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, figures: EpochFigures) -> None:
        for kind, values in (
            ("train", {"loss": figures.loss, "accuracy": figures.accuracy}),
            ("validation", {"loss": figures.val_loss, "accuracy": figures.val_accuracy}),
        ):
            if kind not in self._writers:
                continue
            # `tf.summary.scalar` needs the TensorBoard package; what it writes is this.
            metadata = tf.compat.v1.SummaryMetadata(data_class=1)  # DATA_CLASS_SCALAR
            metadata.plugin_data.plugin_name = "scalars"
            with self._writers[kind].as_default():
                for name, value in values.items():
                    tensor = tf.constant(value, tf.float32)
                    tf.summary.write(f"epoch_{name}", tensor, figures.epoch, metadata)


def _blocks(rows: np.ndarray[Any, Any], size: int) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
