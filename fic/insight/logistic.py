"""Multinomial logistic regression with weight decay, by L-BFGS: convex, so it has one answer.

Jorge Nocedal, "Updating quasi-Newton matrices with limited storage", Mathematics of Computation 35
(1980): the direction from the last steps; the length by halving until Armijo's condition holds.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fic_export.fits.softmax import softmax

_STEPS_KEPT = 10
_MOST_STEPS = 200
_MOST_HALVINGS = 20
_SUFFICIENT = 1e-4  # share of the expected decrease that a step has to reach
_CURVATURE = 1e-10  # below it a step says nothing about the curvature

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier: `weights` (width, classes) and `bias` (classes,)."""

    weights: Floats
    bias: Floats

    def probabilities(self, rows: Floats) -> Floats:
        """Return the probability of each class, (n, classes), of rows (n, width)."""
        return softmax(rows @ self.weights + self.bias)


def fit_logistic(
    rows: Floats,
    targets: Ints,
    classes: int,
    *,
    decay: float,
    start: Logistic | None = None,
    tolerance: float = 1e-4,
) -> Logistic:
    """Minimize the mean cross entropy plus `decay` / 2 times the squared weights.

    Args:
        rows: float32 (n, width), of about unit length each, so that `decay` means the same for all.
        targets: class of each row, (n,).
        classes: how many there are; some may have no row.
        decay: strength of the weight decay; the bias does not decay.
        start: where to start, such as the answer for another fold.
        tolerance: largest gradient of any weight at the end.
    """
    width = rows.shape[1]
    theta = np.zeros((width + 1, classes))
    if start is not None:
        theta[:-1], theta[-1] = start.weights, start.bias
    objective = _Objective(rows, targets, decay)
    loss, gradient = objective(theta)
    memory: deque[tuple[Floats, Floats, float]] = deque(maxlen=_STEPS_KEPT)
    for _ in range(_MOST_STEPS):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = -_inverse_hessian_times(gradient, memory)
        slope = float((gradient * direction).sum())
        if slope >= 0:  # rounding has spoilt the memory
            memory.clear()
            direction, slope = -gradient, -float((gradient * gradient).sum())
        length = 1.0 if memory else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(_MOST_HALVINGS):
            moved = theta + length * direction
            new_loss, new_gradient = objective(moved)
            if new_loss <= loss + _SUFFICIENT * length * slope:
                break
            length /= 2
        else:
            break  # nothing is left to gain in this precision
        step, change = moved - theta, new_gradient - gradient
        curvature = float((step * change).sum())
        if curvature > _CURVATURE:
            memory.append((step, change, 1 / curvature))
        theta, loss, gradient = moved, new_loss, new_gradient
    return Logistic(theta[:-1].astype(np.float32), theta[-1].astype(np.float32))


class _Objective:
    """Loss and gradient at weights and bias stacked as (width + 1, classes)."""

    def __init__(self, rows: Floats, targets: Ints, decay: float) -> None:
        self._rows, self._targets, self._decay = rows, targets, decay
        self._own = np.arange(len(targets)), targets

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        weights = theta[:-1].astype(self._rows.dtype)
        probabilities = softmax(self._rows @ weights + theta[-1].astype(self._rows.dtype))
        likelihood = np.log(np.maximum(probabilities[self._own], 1e-30), dtype=np.float64)
        loss = -likelihood.mean() + self._decay / 2 * float((theta[:-1] ** 2).sum())
        probabilities[self._own] -= 1
        probabilities /= len(self._targets)
        gradient = np.empty_like(theta)
        gradient[:-1] = self._rows.T @ probabilities
        gradient[:-1] += self._decay * theta[:-1]
        gradient[-1] = probabilities.sum(axis=0)
        return float(loss), gradient


def _inverse_hessian_times(gradient: Floats, memory: deque[tuple[Floats, Floats, float]]) -> Floats:
    """Return the quasi-Newton step for a gradient: the two loops over the last steps."""
    result = gradient.copy()
    shares = []
    for step, change, inverse in reversed(memory):
        share = inverse * float((step * result).sum())
        result -= share * change
        shares.append(share)
    if memory:
        _, change, inverse = memory[-1]
        result /= inverse * float((change * change).sum())
    for (step, change, inverse), share in zip(memory, reversed(shares), strict=True):
        result += (share - inverse * float((change * result).sum())) * step
    return result
