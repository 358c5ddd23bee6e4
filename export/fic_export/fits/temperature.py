"""Calibrated probabilities: one temperature for all logits, folded into the head's graph.

Guo et al. 2017, https://arxiv.org/abs/1706.04599. The order of the labels never changes, only how
sure the classifier says it is.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fic_runtime.heads.ood_scores import Array

from .softmax import cross_entropies, softmax

if TYPE_CHECKING:
    import keras

BINS = 15
# Fewer say too little of what a temperature does to pictures that it was not fitted on.
LEAST_PICTURES = 50

# Spread of the prior on the logarithm of the temperature: 1 is likely, 3 and 1/3 are not. Without
# it a few pictures that are all right, or all wrong, send the temperature to 0 or to infinity.
_PRIOR = 0.5
_RANGE = 3.0
_STEPS = 30
# Halvings, fewer of them for many logits: 20 of a thousand pictures of 100 labels cost a second.
_REPEATS = range(2, 21)
_LOGITS = 2_000_000
_SEED = 20170807
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperature of a head, and what it did on pictures that it was not fitted on.

    Attributes:
        temperature: what the logits are divided by; 1 leaves the probabilities as they are.
        fitted: the temperature that the pictures asked for, if it was measured.
        pictures: how many it was fitted and measured on.
        ece_before: expected calibration error, 15 bins, of the probabilities as they are.
        ece_after: likewise with temperatures fitted on halves of the pictures and measured on the
            other halves.
        loss_before: cross entropy in nats, like `ece_before`.
        loss_after: like `ece_after`.
        reason: why the temperature is what it is.
    """

    temperature: float = 1.0
    fitted: float | None = None
    pictures: int | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    reason: str = "given"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"a temperature is positive and finite; received {self.temperature}")


def fit_calibration(probabilities: Array, targets: Array) -> Calibration:
    """Fit the temperature, and keep it only if it helps on pictures that it was not fitted on.

    Args:
        probabilities: a softmax head's answers for validation pictures, (pictures, labels).
        targets: the index of each picture's label, (pictures,).
    """
    count = len(targets)
    if count < LEAST_PICTURES:
        return Calibration(
            pictures=count, reason=f"fewer than {LEAST_PICTURES} validation pictures in the cache"
        )
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY))
    found = Calibration(
        fitted=fit_temperature(logits, targets),
        pictures=count,
        ece_before=expected_calibration_error(probabilities, targets),
        loss_before=float(cross_entropies(logits, targets).mean()),
        reason="no better on held-out validation pictures",
    )
    errors, losses = zip(*_held_out(logits, targets), strict=True)
    mean_losses = np.mean(losses, axis=0)
    found = replace(found, ece_after=float(np.mean(errors)), loss_after=float(mean_losses.mean()))
    gains = cross_entropies(logits, targets) - mean_losses
    # A gain within its own standard error is none (docs/why/ood-and-teaching.md).
    clear = gains.mean() > gains.std(ddof=1) / np.sqrt(count)
    if found.fitted and clear and np.mean(errors) < (found.ece_before or 0.0):
        return replace(
            found, temperature=found.fitted, reason="better on held-out validation pictures"
        )
    return found


def fit_temperature(logits: Array, targets: Array) -> float:
    """Return the temperature of the least cross entropy under the prior.

    The sum over the pictures is minimised by golden sections of its logarithm, in which it has a
    single valley over the range in practice.
    """

    def cost(log: float) -> float:
        loss = cross_entropies(logits / np.exp(log), targets).sum()
        return float(loss + log**2 / (2 * _PRIOR**2))

    ratio = (np.sqrt(5) - 1) / 2
    low, high = -_RANGE, _RANGE
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    left_cost, right_cost = cost(left), cost(right)
    for _ in range(_STEPS):
        if left_cost < right_cost:
            high, right, right_cost = right, left, left_cost
            left = high - ratio * (high - low)
            left_cost = cost(left)
        else:
            low, left, left_cost = left, right, right_cost
            right = low + ratio * (high - low)
            right_cost = cost(right)
    return float(np.exp((low + high) / 2))


def expected_calibration_error(probabilities: Array, targets: Array, *, bins: int = BINS) -> float:
    """Return the mean gap between how sure and how right, 0..1, in equal bins of the first."""
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    # Bins are open on the left, as in the paper; 0 belongs to the first.
    indices = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(indices, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the softmax of the logarithms divided by the temperature, in the same type."""
    if temperature == 1.0:
        return probabilities
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    return np.asarray(softmax(logits), probabilities.dtype)


def ends_in_softmax(head: "keras.Model") -> bool:
    """Tell whether the head's last step is a softmax over the labels."""
    import keras

    layer = head.layers[-1]
    if isinstance(layer, keras.Model):
        return ends_in_softmax(layer)
    if isinstance(layer, keras.layers.Softmax):
        return bool(layer.axis in (-1, 1))
    return getattr(layer, "activation", None) is keras.activations.softmax


def _held_out(logits: Array, targets: Array) -> list[tuple[float, Array]]:
    """Return error and losses when each half has the temperature of the other, repeatedly."""
    random = np.random.default_rng(_SEED)
    found = []
    for _ in range(int(np.clip(_LOGITS // logits.size, _REPEATS[0], _REPEATS[-1]))):
        order = random.permutation(len(targets))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        scaled = np.empty_like(logits)
        for fitted, measured in (halves, halves[::-1]):
            scaled[measured] = logits[measured] / fit_temperature(logits[fitted], targets[fitted])
        error = expected_calibration_error(softmax(scaled), targets)
        found.append((error, cross_entropies(scaled, targets)))
    return found
