"""Pictures whose label is likely wrong, and classes that are taken for each other.

Confident learning: Curtis Northcutt, Lu Jiang and Isaac Chuang, "Confident Learning: Estimating
Uncertainty in Dataset Labels", Journal of Artificial Intelligence Research 70 (2021). Each picture
is judged by a classifier that was not trained on it. A class's threshold is the mean probability of
the class among the pictures that are labeled so; a picture that passes the threshold of another
class counts as that class's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..progress import Progress
from .logistic import Floats, Ints, fit_logistic

_DECAY = 1e-3  # strong enough that single wrong labels do not bend the boundary to themselves
MERGE = 0.25
"""Share of two classes' pictures taken for the other one from which on they may be one."""


@dataclass(frozen=True)
class LabelErrors:
    """What the classifiers that did not see a picture say of its label.

    Attributes:
        probabilities: of each class, (n, classes), by a classifier not trained on the picture.
        suggested: the most probable class, (n,); where a label is suspect, not its own.
        scores: how suspect each label is, from 0 to 1: half of 1 + the probability of the best
            other class - the probability of its own.
        likely_wrong: whether confident learning takes the picture for another class's.
    """

    probabilities: Floats
    suggested: Ints
    scores: Floats
    likely_wrong: Ints


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Two classes that are taken for each other.

    Attributes:
        classes: their names.
        count: pictures of one that were taken for the other.
        share: of the pictures of both.
        merge: whether they may be better off as one class.
    """

    classes: tuple[str, str]
    count: int
    share: float
    merge: bool


def assign_folds(targets: Ints, groups: Ints, folds: int, *, seed: int = 0) -> Ints:
    """Return the fold of each picture, (n,): each class evenly, a group of duplicates in one.

    Where a class has fewer groups than folds its pictures are spread singly, so that every fold
    is judged by a classifier that has seen the class.

    Args:
        targets: class of each picture, (n,).
        groups: number of the group of duplicates of each, (n,).
        folds: how many.
        seed: of the order in which they are dealt out.
    """
    random = np.random.default_rng(seed)
    fold_of_group: dict[int, int] = {}
    fold = np.empty(len(targets), np.int64)
    for target in np.unique(targets):
        own = random.permutation(np.flatnonzero(targets == target))
        distinct = len(set(groups[own].tolist()))
        start = int(random.integers(folds))
        dealt = 0
        for index in own.tolist():
            group = int(groups[index])
            if distinct < folds:
                fold[index] = (start + dealt) % folds
                dealt += 1
                continue
            if group not in fold_of_group:
                fold_of_group[group] = (start + dealt) % folds
                dealt += 1
            fold[index] = fold_of_group[group]
    return fold


def check_folds(counts: Sequence[int], labels: Sequence[str], folds: int) -> None:
    """Make sure that every class can be spread over the folds.

    Raises:
        DataError: a class has fewer pictures than there are folds.
    """
    least = min(range(len(counts)), key=lambda index: counts[index])
    if counts[least] >= folds:
        return
    few = counts[least]
    plural = "picture" if few == 1 else "pictures"
    remedy = f"add pictures or give --folds {few}" if few >= 2 else "add pictures"
    raise DataError(
        f"class {labels[least]!r}: has {few} readable {plural}, fewer than the {folds} folds; "
        f"{remedy}"
    )


def judge_labels(
    rows: Floats, targets: Ints, fold: Ints, classes: int, progress: Progress
) -> LabelErrors:
    """Judge each label by a classifier that was not trained on its picture.

    Args:
        rows: of length 1, (n, width).
        targets: class of each row, (n,).
        fold: see `assign_folds`.
        classes: how many there are.
        progress: told of each fold.
    """
    probabilities = np.zeros((len(rows), classes), np.float32)
    numbers = np.unique(fold)
    progress.start("judging labels", len(numbers), unit="fold")
    fitted = None
    try:
        for number in numbers:
            out = fold == number
            fitted = fit_logistic(
                rows[~out], targets[~out], classes, decay=_DECAY, start=fitted, tolerance=3e-4
            )
            probabilities[out] = fitted.probabilities(rows[out])
            progress.advance(1)
    finally:
        progress.finish()
    own = probabilities[np.arange(len(rows)), targets]
    others = probabilities.copy()
    others[np.arange(len(rows)), targets] = -1
    best = others.max(axis=1)
    return LabelErrors(
        probabilities=probabilities,
        suggested=np.where(best > own, others.argmax(axis=1), targets),
        scores=np.clip((1 + best - own) / 2, 0, 1),
        likely_wrong=_confidently_other(probabilities, targets),
    )


def _confidently_other(probabilities: Floats, targets: Ints) -> Ints:
    """Return whether each picture counts, in the confident joint, as another class's."""
    thresholds = np.array(
        [
            probabilities[targets == target, target].mean() if (targets == target).any() else np.inf
            for target in range(probabilities.shape[1])
        ]
    )
    passed = np.where(probabilities >= thresholds, probabilities, -1)
    counted = passed.argmax(axis=1)
    return np.asarray((passed.max(axis=1) >= 0) & (counted != targets))


def confused_classes(errors: LabelErrors, targets: Ints, labels: Sequence[str]) -> list[Confusion]:
    """Return the pairs of classes that are taken for each other, the most confused first."""
    predicted = errors.probabilities.argmax(axis=1)
    counts = np.bincount(targets, minlength=len(labels))
    wrong = predicted != targets
    pairs = np.sort(np.stack([targets[wrong], predicted[wrong]], axis=1), axis=1)
    unique, times = np.unique(pairs, axis=0, return_counts=True)
    found = [
        Confusion(
            classes=(labels[a], labels[b]),
            count=int(count),
            share=float(count / (counts[a] + counts[b])),
            merge=bool(count / (counts[a] + counts[b]) >= MERGE),
        )
        for (a, b), count in zip(unique.tolist(), times.tolist(), strict=True)
    ]
    return sorted(found, key=lambda pair: (-pair.share, pair.classes))
