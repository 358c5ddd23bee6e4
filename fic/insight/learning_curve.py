"""What more photos would bring: accuracy against their number, and where the curve leads to.

Errors of classifiers fall as a power of the number of training pictures, down to a floor: Hestness
et al. 2017, https://arxiv.org/abs/1712.00409. The curve is fitted to means over the folds, and how
far it can be trusted is seen from folds that are drawn again with replacement (Efron 1979).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..options import TrainingOptions
from ..progress import Progress
from .cached_pictures import CachedPictures
from .cross_validation import answered_rightly, side_by_side
from .logistic import Floats, Ints

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Of the training pictures of each class, those that are used."""

_EXPONENTS = np.linspace(0.1, 1.5, 29)
_RESAMPLES = 400
_BAND = (0.1, 0.9)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Accuracy with so many training pictures.

    Attributes:
        pictures: how many, the mean over the folds.
        accuracy: mean of the folds.
        spread: standard deviation of the folds.
    """

    pictures: float
    accuracy: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class ClassPoint:
    """What more photos did for one class.

    Attributes:
        label: its name.
        pictures: how many there are.
        accuracy: with all of them: share that is answered rightly while it is left out.
        gain: over the accuracy with half of all pictures.
    """

    label: str
    pictures: int
    accuracy: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Accuracy against the number of training pictures.

    Attributes:
        points: measured.
        classes: of each class, those that gained most from the second half first.
        doubled: twice as many pictures as there are.
        low: expected accuracy with so many, the lower end of a band of 80 %.
        high: the upper end.
    """

    points: Sequence[CurvePoint]
    classes: Sequence[ClassPoint]
    doubled: int
    low: float
    high: float

    def sentence(self) -> str:
        """Say what twice the photos would bring."""
        ends = f"{100 * self.low:.1f}", f"{100 * self.high:.1f}"
        range_ = f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"
        now = f"{100 * self.points[-1].accuracy:.1f}"
        return f"with twice the photos expect {range_}; with these it is {now} %"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def measure_curve(
    pictures: CachedPictures, fold: Ints, recipe: TrainingOptions, progress: Progress
) -> LearningCurve:
    """Train with shares of the pictures in each fold, and extrapolate to twice as many."""
    numbers = np.unique(fold).tolist()
    right = np.zeros((len(SHARES), len(pictures)), bool)
    counts = np.zeros((len(SHARES), len(numbers)))
    order = _order(pictures.targets, seed=recipe.seed)

    def work(job: tuple[int, int]) -> tuple[int, Ints]:
        share, number = job
        train = _share_of(pictures.targets, order, fold != number, SHARES[share])
        held = np.flatnonzero(fold == number)
        return len(train), answered_rightly(pictures, train, held, recipe)

    jobs = [(share, number) for share in range(len(SHARES)) for number in numbers]
    found = side_by_side(work, jobs, progress, what="learning curve")
    for (share, number), (count, answers) in zip(jobs, found, strict=True):
        counts[share, number] = count
        right[share, fold == number] = answers
    accuracies = np.stack([right[:, fold == number].mean(axis=1) for number in numbers], axis=1)
    sizes = counts.mean(axis=1)
    low, high = extrapolated(sizes, 1 - accuracies, 2 * sizes[-1])
    return LearningCurve(
        points=[
            CurvePoint(pictures=float(size), accuracy=float(own.mean()), spread=float(own.std()))
            for size, own in zip(sizes, accuracies, strict=True)
        ],
        classes=_classes(pictures, right),
        doubled=2 * len(pictures),
        low=low,
        high=high,
    )


def extrapolated(sizes: Floats, errors: Floats, size: float) -> tuple[float, float]:
    """Return the ends of a band of 80 % for the accuracy with so many pictures.

    Args:
        sizes: numbers of training pictures, (sizes,).
        errors: shares of wrong answers, (sizes, folds).
        size: number of training pictures that was not tried.
    """
    random = np.random.default_rng(0)
    folds = errors.shape[1]
    centre = _error_at(sizes, errors.mean(axis=1), size)
    found = []
    for _ in range(_RESAMPLES):
        drawn = errors[:, random.integers(folds, size=folds)].mean(axis=1)
        found.append(_error_at(sizes, drawn, size))
    # Folds that are drawn again vary less than new ones would.
    wider = centre + (np.array(found) - centre) * np.sqrt(folds / (folds - 1))
    best, worst = np.quantile(wider, _BAND)
    return float(np.clip(1 - worst, 0, 1)), float(np.clip(1 - best, 0, 1))


def _error_at(sizes: Floats, errors: Floats, size: float) -> float:
    """Return floor + factor · size ** -exponent of the best fit, floor and factor at least 0."""
    best, answer = np.inf, float(errors[-1])
    for exponent in _EXPONENTS:
        powers = sizes**-exponent
        floor, factor = _non_negative(powers, errors)
        loss = float(((floor + factor * powers - errors) ** 2).sum())
        if loss < best:
            best, answer = loss, float(floor + factor * size**-exponent)
    return answer


def _non_negative(powers: Floats, errors: Floats) -> tuple[float, float]:
    spread = powers - powers.mean()
    factor = max(0.0, float(spread @ errors / (spread @ spread)))
    floor = float(errors.mean() - factor * powers.mean())
    if floor >= 0:
        return floor, factor
    return 0.0, max(0.0, float(powers @ errors / (powers @ powers)))


def _order(targets: Ints, *, seed: int) -> Floats:
    """Return a random number for each picture; a share of a class are those of the smallest."""
    return np.random.default_rng(seed).random(len(targets))


def _share_of(targets: Ints, order: Floats, allowed: Ints, share: float) -> Ints:
    """Return the rows of a share of each class, at least one of each."""
    rows = []
    for target in np.unique(targets):
        own = np.flatnonzero(allowed & (targets == target))
        own = own[np.argsort(order[own])]
        rows.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(rows))


def _classes(pictures: CachedPictures, right: Ints) -> list[ClassPoint]:
    half = SHARES.index(0.5)
    found = []
    for number, label in enumerate(pictures.labels):
        own = pictures.targets == number
        accuracy = float(right[-1, own].mean())
        gain = accuracy - float(right[half, own].mean())
        found.append(ClassPoint(label=label, pictures=int(own.sum()), accuracy=accuracy, gain=gain))
    return sorted(found, key=lambda point: -point.gain)
