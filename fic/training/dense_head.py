"""Train heads of dense layers in NumPy: a whole training takes less than TensorFlow's import.

The steps are those of `fic.training.keras_head`, in the same order and with the same random
numbers; answers after the same epochs differ by rounding (`tests/fic/training/test_dense_head.py`
compares them).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..heads.dense import DenseHead
from ..heads.keras_random import layer_seeds, uniform
from ..options import TrainingOptions
from .class_weights import class_weights
from .data import TrainingData
from .epochs import TrainingPass, Validation, take_steps, validation_of
from .metrics import answers_of
from .optimizers import optimizer_for, pieces

_Arrays = list[NDArray[np.float32]]


class DenseLearner:
    """A dense head with the bottlenecks that it is trained and validated on."""

    def __init__(
        self, head: DenseHead, train: TrainingData, val: TrainingData, options: TrainingOptions
    ) -> None:
        self.head = head.with_weights(head.weights)
        """The head as it is now."""
        self._train = train
        self._val = val
        self._batch_size = options.batch_size
        self._random = np.random.default_rng(options.seed)
        self._step = _step_of(self.head, train.dataset, options)

    def train(self) -> TrainingPass:
        """Take a step for each batch of the training bottlenecks."""
        # A rate that is too high ends in numbers that are none, which the epoch's end tells of.
        with np.errstate(all="ignore"):
            return take_steps(self._step, self._train.epoch(self._random, self._batch_size))

    def validate(self) -> Validation:
        """Measure the head on the validation bottlenecks."""
        blocks = (self.head.predict_on_batch(block) for block in self._val.plain())
        with np.errstate(all="ignore"):
            return validation_of(answers_of(blocks, self._val.targets))

    def weights(self) -> list[NDArray[Any]]:
        """Return copies of the weights."""
        return [*self.head.get_weights()]

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take back what `weights` returned."""
        for own, array in zip(self.head.weights, weights, strict=True):
            own[:] = array


def _step_of(
    head: DenseHead, pictures: Dataset, options: TrainingOptions
) -> Callable[[NDArray[Any], NDArray[Any]], tuple[float, int]]:
    """Return a function from bottlenecks and targets to summed loss and right answers.

    It changes the weights of the head.
    """
    optimize = optimizer_for(head.weights, options)
    decay = np.float32(0 if options.optimizer == "adamw" else options.weight_decay)
    loss = _Loss(class_weights(pictures, options), options.label_smoothing)
    drop = _Dropout(options.seed, head.dropout)
    gradients: _Arrays = [np.empty_like(array) for array in head.weights]

    def step(bottlenecks: NDArray[Any], targets: NDArray[Any]) -> tuple[float, int]:
        features = head.features(bottlenecks)
        inputs: _Arrays = [features]
        if head.is_mlp:
            hidden = features @ head.weights[0]
            hidden += head.weights[1]
            np.maximum(hidden, 0, out=hidden)
            inputs.append(drop(hidden))
        logits = inputs[-1] @ head.weights[-2]
        logits += head.weights[-1]
        total, right, errors = loss(logits, targets)
        for number in reversed(range(len(inputs))):
            taken, kernel = inputs[number], head.weights[2 * number]
            gradient = np.matmul(taken.T, errors, out=gradients[2 * number])
            if decay:
                for piece, weights in pieces(gradient, kernel):
                    piece += decay * weights
            errors.sum(axis=0, out=gradients[2 * number + 1])
            if number:
                errors = errors @ kernel.T
                # What was dropped or below zero passes nothing on; the rest was enlarged.
                errors *= (taken > 0) * drop.enlargement
        optimize(gradients)
        return total, right

    return step


class _Loss:
    """The cross entropy, weighted by class and smoothed."""

    def __init__(self, weights: NDArray[np.float32], smoothing: float) -> None:
        self._weights = weights
        self._smoothing = smoothing
        self._weighted = bool((weights != 1).any())

    def __call__(
        self, logits: NDArray[np.float32], targets: NDArray[Any]
    ) -> tuple[float, int, NDArray[np.float32]]:
        """Return summed loss, right answers, and the gradient of the mean loss by the logits.

        Args:
            logits: (n, classes); they are used up.
            targets: (n,).
        """
        count, classes = logits.shape
        rows = np.arange(count)
        logits -= logits.max(axis=1, keepdims=True)
        own, mean = logits[rows, targets], logits.mean(axis=1) if self._smoothing else 0.0
        right = int(np.count_nonzero(logits.argmax(axis=1) == targets))
        errors = np.exp(logits, out=logits)
        sums = errors.sum(axis=1, keepdims=True)
        smoothing = np.float32(self._smoothing)
        losses = np.log(sums[:, 0]) - (1 - smoothing) * own - smoothing * mean
        errors /= sums
        if smoothing:
            errors -= smoothing / np.float32(classes)
        errors[rows, targets] -= 1 - smoothing
        if self._weighted:
            weights = self._weights[targets]
            losses *= weights
            errors *= weights[:, None]
        errors /= np.float32(count)
        return float(losses.sum()), right, errors


class _Dropout:
    """Leaves out a share of the units in each step, those that Keras leaves out."""

    def __init__(self, seed: int, share: float) -> None:
        # The second seed that Keras draws is that of the layer after the hidden one.
        self._seed = layer_seeds(seed, 2)[1]
        self._share = np.float32(share)
        self._steps = 0
        self.enlargement = np.float32(1 / (1 - share))

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the units (n, width), some as 0 and the others enlarged to make up for it."""
        if not self._share:
            return units
        drawn = uniform(self._seed, self._steps, units.size).reshape(units.shape)
        self._steps += 1
        units *= self.enlargement
        units *= drawn >= self._share
        return units
