"""Keras's optimizers in NumPy, with Keras's defaults: the same steps from the same gradients.

Everything is float32, and each step changes the weights in place.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..options import TrainingOptions

_Weights = Sequence[NDArray[np.float32]]

_MEAN_DECAY = 0.9  # Adam's beta 1
_SQUARE_DECAY = 0.999  # Adam's beta 2
_RHO = 0.9  # of RMSprop
_MOMENTUM = 0.9  # of SGD
_EPSILON = np.float32(1e-7)
# Numbers that are changed at once: where the weights of thousands of classes are more than the
# processor's cache holds, each of the dozen operations of a step would go through memory.
_PIECE = 1 << 14


class Step(Protocol):
    """What turns gradients into changes of the weights."""

    def __call__(self, gradients: _Weights) -> None:
        """Change the weights by one step; the gradients are used up."""


def optimizer_for(weights: _Weights, options: TrainingOptions) -> Step:
    """Return the optimizer that the options name, for these weights.

    The weight decay of AdamW spares biases, which have one axis.
    """
    rate = options.resolved().learning_rate
    if rate is None:
        raise ValueError("resolved options have a learning rate")
    if options.optimizer == "sgd":
        return _Sgd(weights, rate)
    if options.optimizer == "rmsprop":
        return _RmsProp(weights, rate)
    return _Adam(weights, rate, options.weight_decay if options.optimizer == "adamw" else 0.0)


class _Adam:
    """Adam, and AdamW with a decay: in each step the weights lose it times the learning rate."""

    def __init__(self, weights: _Weights, rate: float, decay: float) -> None:
        self._weights = weights
        self._rate = rate
        self._kept = np.float32(1 - decay * rate)
        self._decays = bool(decay)
        self._means = [np.zeros_like(array) for array in weights]
        self._squares = [np.zeros_like(array) for array in weights]
        self._steps = 0

    def __call__(self, gradients: _Weights) -> None:
        self._steps += 1
        one = np.float32(1)
        size = np.float32(self._rate) * np.sqrt(one - np.float32(_SQUARE_DECAY) ** self._steps)
        size /= one - np.float32(_MEAN_DECAY) ** self._steps
        for arrays in zip(self._weights, gradients, self._means, self._squares, strict=True):
            decays = self._decays and arrays[0].ndim > 1
            for weights, gradient, mean, square in pieces(*arrays):
                if decays:
                    weights *= self._kept
                _approach(square, gradient * gradient, 1 - _SQUARE_DECAY)
                _approach(mean, gradient, 1 - _MEAN_DECAY)
                # The gradient's memory is free now: it takes the deviation.
                deviation = np.sqrt(square, out=gradient)
                deviation += _EPSILON
                change = mean * size
                change /= deviation
                weights -= change


class _RmsProp:
    def __init__(self, weights: _Weights, rate: float) -> None:
        self._weights = weights
        self._rate = np.float32(rate)
        self._squares = [np.zeros_like(array) for array in weights]

    def __call__(self, gradients: _Weights) -> None:
        for arrays in zip(self._weights, gradients, self._squares, strict=True):
            for weights, gradient, square in pieces(*arrays):
                square *= np.float32(_RHO)
                square += np.float32(1 - _RHO) * gradient * gradient
                gradient *= self._rate
                gradient /= np.sqrt(square + _EPSILON)
                weights -= gradient


class _Sgd:
    """Stochastic gradient descent with momentum."""

    def __init__(self, weights: _Weights, rate: float) -> None:
        self._weights = weights
        self._rate = np.float32(rate)
        self._changes = [np.zeros_like(array) for array in weights]

    def __call__(self, gradients: _Weights) -> None:
        for arrays in zip(self._weights, gradients, self._changes, strict=True):
            for weights, gradient, change in pieces(*arrays):
                change *= np.float32(_MOMENTUM)
                gradient *= self._rate
                change -= gradient
                weights += change


def pieces(*arrays: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Yield the same part of each array, to be changed; arrays that are small as they are.

    Args:
        arrays: of one size, C-contiguous.
    """
    if arrays[0].size <= _PIECE:
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _PIECE):
        yield tuple(array[start : start + _PIECE] for array in flat)


def _approach(average: NDArray[Any], value: NDArray[Any], share: float) -> None:
    """Move a running average towards a value by this share of their distance."""
    distance = value - average
    distance *= np.float32(share)
    average += distance
