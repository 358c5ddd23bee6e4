"""A linear classifier fitted within moments: a head for where some classes are left out."""

from dataclasses import dataclass

import numpy as np

from fic_runtime.heads.ood_scores import Array

# Of fic's own linear head (docs/decisions.md).
_DECAY = 0.03
_STEPS = 100


@dataclass(frozen=True)
class SoftmaxRegression:
    """Logits are features @ weights + bias; shapes (features, classes) and (classes,)."""

    weights: Array
    bias: Array

    def probabilities(self, features: Array) -> Array:
        """Return the softmax of the logits, (n, classes)."""
        return _softmax(features @ self.weights + self.bias)


def fit_softmax_regression(features: Array, truth: Array) -> SoftmaxRegression:
    """Minimise the cross entropy with a decay of the weights, by accelerated gradient steps.

    Beck & Teboulle 2009, https://doi.org/10.1137/080716542. The features are standardised as fic's
    linear head does it.

    Args:
        features: (pictures, features).
        truth: the index of each picture's class, 0 to the number of classes less one.
    """
    mean, variance = features.mean(axis=0), features.var(axis=0, dtype=np.float64)
    factor = (1 / np.sqrt(variance + (variance.mean() or 1.0))).astype(np.float32)
    inputs = (features - mean) * factor
    wanted = np.eye(int(truth.max()) + 1, dtype=np.float32)[truth]
    step = 1 / (0.5 * _largest_square(inputs) / len(inputs) + 2 * _DECAY + 0.5)
    weights = ahead = np.zeros((inputs.shape[1], wanted.shape[1]), np.float32)
    bias = bias_ahead = np.zeros(wanted.shape[1], np.float32)
    pace = 1.0
    for _ in range(_STEPS):
        wrong = (_softmax(inputs @ ahead + bias_ahead) - wanted) / np.float32(len(inputs))
        before, bias_before = weights, bias
        weights = ahead - np.float32(step) * (inputs.T @ wrong + 2 * _DECAY * ahead)
        bias = bias_ahead - np.float32(step) * wrong.sum(axis=0)
        following = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        momentum = np.float32((pace - 1) / following)
        ahead = weights + momentum * (weights - before)
        bias_ahead = bias + momentum * (bias - bias_before)
        pace = following
    weights = weights * factor[:, None]
    return SoftmaxRegression(weights, bias - mean @ weights)


def _largest_square(rows: Array) -> float:
    """Return the square of the largest singular value, by power iteration, rounded up."""
    direction = np.ones(rows.shape[1], np.float32)
    square = 0.0
    for _ in range(20):
        direction = rows.T @ (rows @ direction)
        square = float(np.linalg.norm(direction))
        direction = direction / np.float32(square or 1.0)
    return 1.1 * square


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
