"""Fine-tuning: the last layers of the base, trained together with the head.

The base is a copy: the one that the cache belongs to keeps its weights.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fic_runtime.preprocessing import Pixels

from ..bases.opening import AnyBase
from ..bottlenecks.live import LivePictures
from ..data.dataset import each_once
from ..errors import BaseOptionError
from ..heads.dense import DenseHead
from ..heads.dense_files import to_keras
from ..options import TrainingOptions
from ..progress import Progress
from .epochs import TrainingPass, Validation, take_steps, train_epochs, validation_of
from .head import TrainedHead
from .metrics import Answers, answers_of
from .objective import Objective, training_objective


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A fine-tuned classifier.

    Attributes:
        head: the head of the best epoch, with the figures of all epochs, the head's own first.
        base: the base of the best epoch, or None if no epoch was better than none at all.
        answers: those of the best epoch for the validation pictures.
        record: its entry in `run.json`.
    """

    head: TrainedHead
    base: keras.Model | None
    answers: Answers
    record: dict[str, Any]


def check_layers(base: AnyBase, count: int) -> None:
    """Make sure, before the work begins, that `count` layers of the base can be trained.

    Raises:
        BaseOptionError: the base has fewer.
    """
    _last_layers(base.model, count)


def fine_tune(
    base: AnyBase,
    trained: TrainedHead,
    train: LivePictures,
    val: LivePictures,
    options: TrainingOptions,
    progress: Progress,
) -> FineTuned:
    """Train the head and the last layers of a copy of the base, and keep the best epoch.

    What the head reached without fine-tuning is a candidate, too. The same seed, pictures and
    machine give the same classifier, on a CPU.

    Raises:
        BaseOptionError: the base does not have so many layers.
        ImageError: a picture cannot be read any more.
        TrainingError: the loss is not a number any more.
    """
    started = time.perf_counter()
    keras.utils.set_random_seed(options.seed)
    model = base.copy_model()
    layers = _last_layers(model, options.fine_tune)
    head = to_keras(trained.model) if isinstance(trained.model, DenseHead) else trained.model
    objective = training_objective(head, train.dataset, options, decay=options.weight_decay)
    network = _Network(
        model,
        head,
        layers,
        base.preprocessing.pixels,
        objective,
        options.fine_tune_learning_rate,
    )
    learner = _NetworkLearner(network, train, val, options)
    before = learner.validate()
    first = len(trained.history) + 1
    done = train_epochs(
        learner,
        range(first, first + options.fine_tune_epochs),
        options,
        progress,
        learning_rate=f"--fine-tune-lr than {options.fine_tune_learning_rate:g}",
        before=before,
    )
    best = done.best or before
    if not done.best_epoch:
        progress.note("fine-tuning gained nothing in validation; the base stays as it was")
    return FineTuned(
        head=replace(
            trained,
            model=head,
            history=[*trained.history, *done.history],
            best_epoch=done.best_epoch or trained.best_epoch,
            skipped=each_once([*trained.skipped, *done.skipped]),
        ),
        base=model if done.best_epoch else None,
        answers=best.answers,
        record={
            "layers": [layer.name for layer in layers],
            "first_epoch": first,
            "kept": bool(done.best_epoch),
            "val_before": {"loss": before.loss, "accuracy": before.accuracy},
            "val_after": {"loss": best.loss, "accuracy": best.accuracy},
            "seconds": time.perf_counter() - started,
        },
    )


class _Network:
    """Base and head as one, from uint8 pixels to probabilities, and one step of its training."""

    def __init__(
        self,
        base: keras.Model,
        head: keras.Model,
        layers: Sequence[keras.layers.Layer],
        pixel_numbers: Pixels,
        objective: Objective,
        learning_rate: float,
    ) -> None:
        base.trainable = True
        own = [weight for layer in layers for weight in layer.trainable_weights]
        base.trainable = False
        self._variables = [*own, *head.variables]
        variables = [*own, *head.trainable_variables]
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(variables)
        values = [variable.value for variable in variables]
        pixels = tf.TensorSpec((None, *base.input_shape[1:]), tf.uint8)

        def classify(pixels: Any, training: bool) -> Any:
            # The base in inference mode, whatever is trained of it: BatchNormalization keeps
            # its statistics.
            bottlenecks = base(pixel_numbers.apply(tf.cast(pixels, tf.float32)), training=False)
            return head(bottlenecks, training=training)

        @tf.function(input_signature=[pixels])  # type: ignore[untyped-decorator] # no types
        def answer(pixels: Any) -> Any:
            return classify(pixels, False)

        @tf.function(input_signature=[pixels, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator] # no types
        def step(pixels: Any, targets: Any) -> Any:
            # Only what leads to these variables is recorded: the lower part runs without gradients.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                answers = classify(pixels, True)
                losses, loss = objective(answers, targets)
            gradients = tape.gradient(loss, values)
            optimizer.apply(gradients, variables)
            right = tf.equal(tf.argmax(answers, axis=1), targets)
            return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.float32))

        self.answer: Callable[[NDArray[Any]], Any] = answer
        self.step: Callable[[NDArray[Any], NDArray[Any]], Any] = step

    def weights(self) -> list[NDArray[Any]]:
        """Return copies of all that training changes."""
        return [np.array(variable) for variable in self._variables]

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take back what `weights` returned."""
        for variable, value in zip(self._variables, weights, strict=True):
            variable.assign(value)


class _NetworkLearner:
    """The network with the pictures that it is trained and validated on."""

    def __init__(
        self, network: _Network, train: LivePictures, val: LivePictures, options: TrainingOptions
    ) -> None:
        self._network = network
        self._train = train
        self._val = val
        self._batch_size = options.batch_size
        # Not the stream that ordered the pictures of the head's training.
        self._random = np.random.default_rng([options.seed, 1])

    def train(self) -> TrainingPass:
        pixels = self._train.pixels(self._train.augmented(self._random))
        return take_steps(self._network.step, self._train.epoch_of(pixels, self._batch_size))

    def validate(self) -> Validation:
        pixels = self._val.pixels(self._val.unaugmented())
        with closing(self._val.all_of("validating", pixels)) as blocks:
            answers = answers_of(
                (self._network.answer(block).numpy() for block in blocks), self._val.targets
            )
        return validation_of(answers)

    def weights(self) -> list[NDArray[Any]]:
        return self._network.weights()

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        self._network.set_weights(weights)


def _last_layers(base: keras.Model, count: int) -> list[keras.layers.Layer]:
    """Return the base's last layers that can be trained, the last one last.

    BatchNormalization is never among them: in inference mode it is a scale and an offset with the
    statistics of ImageNet, which a few small batches would spoil.
    """
    base.trainable = True  # a frozen layer does not tell which of its weights could be trained
    found = [
        layer
        for layer in _flat(base)
        if layer.trainable_weights and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    base.trainable = False
    if count > len(found):
        raise BaseOptionError(
            f"--fine-tune {count}: {base.name} has {len(found)} layers that can be trained up to "
            "where it is cut; give a smaller number"
        )
    return found[len(found) - count :]


def _flat(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer
