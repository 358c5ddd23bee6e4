"""Choose, by measurement, how a bundle tells pictures like those of the training from outliers.

Each score is measured on two kinds of outliers: pictures of classes that were left out when it was
fitted, and pictures that show none of the classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fic_runtime.bundle.manifest import Known
from fic_runtime.heads.ood_scores import Array, Score
from fic_runtime.heads.out_of_distribution import SCORE_FILE

from .ood_scores import FITS, SoftmaxRegression, fit_softmax_regression

# How much a larger score must gain in AUROC to be preferred to a smaller one.
_WORTH = 0.015
_LEAST_CLASSES = 3
_LEAST_PER_CLASS = 5
# What the comparison on left-out classes looks at, at most: more changes no ranking and costs time.
_COMPARED_CLASSES = 20
_COMPARED_PICTURES = 2000
# Of a softmax regression of all classes, pictures by classes: 7 s at 1280 features on 2 cores.
_MOST_LOGITS = 2_000_000
_FOLDS = 5
_SEED = 20220628


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Pictures as the classifier sees them.

    Attributes:
        features: pooled bottlenecks, float32 (pictures, features).
        probabilities: what the head says of them, (pictures, labels).
    """

    features: Array
    probabilities: Array

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, kw_only=True)
class FittedScore:
    """The score for a bundle, and its entry in the manifest."""

    score: Score
    known: Known

    def write(self, folder: Path) -> None:
        """Write the numbers of the score, if it has any, into a bundle's folder."""
        if self.known.file is not None:
            # Matrices as float16, as they were rounded when the score was fitted and measured.
            arrays = {
                name: array.astype(np.float16) if array.ndim == 2 else array
                for name, array in self.score.arrays().items()
            }
            np.savez(folder / self.known.file, **arrays)  # type: ignore[arg-type] # names are keys


def why_not(classes: int, training: int, validation: int, false_rejection: float) -> str | None:
    """Return why so few pictures or classes give no score, or None if they do.

    Args:
        classes: how many have both training and validation pictures.
        training: how many pictures.
        validation: how many pictures.
        false_rejection: see `fit_out_of_distribution`.
    """
    needed = least_validation(false_rejection)
    if classes < _LEAST_CLASSES:
        return f"{classes} classes, and at least {_LEAST_CLASSES} are needed to leave some out"
    if training < _LEAST_PER_CLASS * classes:
        return f"{training} training pictures, fewer than {_LEAST_PER_CLASS} a class"
    if validation < needed:
        return (
            f"{validation} validation pictures, and a false rejection of {false_rejection:g} "
            f"cannot be measured on fewer than {needed}"
        )
    return None


def fit_out_of_distribution(
    features: Array,
    targets: Array,
    *,
    validation: Answers,
    validation_targets: Array,
    outliers: Answers,
    outlier_source: str,
    false_rejection: float,
    linear: SoftmaxRegression | None = None,
) -> FittedScore:
    """Fit every score, and return the smallest of those within a point of the best AUROC.

    Args:
        features: pooled bottlenecks of training pictures, float32 (pictures, features).
        targets: the index of each one's class, (pictures,).
        validation: pictures of the same classes that nothing was fitted on.
        validation_targets: the index of each one's class.
        outliers: pictures that show none of the classes.
        outlier_source: `drawn` or `files`, for the manifest.
        false_rejection: share of pictures like the validation's that may be called unknown.
        linear: the trained head, if it is linear, for the energy of so many classes that another
            softmax regression would take minutes; without it their energy is not tried.

    Raises:
        ValueError: too few classes or pictures; see `why_not`.
    """
    classes = len(np.intersect1d(targets, validation_targets))
    if reason := why_not(classes, len(features), len(validation), false_rejection):
        raise ValueError(reason)
    held_out = _held_out_areas(features, targets, validation.features, validation_targets)
    fits = len(features) * len(np.unique(targets)) <= _MOST_LOGITS
    head = _head(features, targets) if fits else linear
    fitted = {name: fit(features, targets, head) for name, fit in FITS.items()}
    scores = {name: score for name, score in fitted.items() if score is not None}
    found = {}
    for name, score in scores.items():
        inside = score.score(validation.features, validation.probabilities)
        outside = score.score(outliers.features, outliers.probabilities)
        found[name] = {"held_out": held_out[name], "foreign": area_under_roc(inside, outside)}
    best = _choice(found)
    chosen = scores[best]
    threshold = rejection_threshold(
        chosen.score(validation.features, validation.probabilities), false_rejection
    )
    outside = chosen.score(outliers.features, outliers.probabilities)
    return FittedScore(
        score=chosen,
        known=Known(
            method=best,
            threshold=threshold,
            file=SCORE_FILE if chosen.arrays() else None,
            false_rejection=false_rejection,
            figures={
                "training_pictures": len(features),
                "validation_pictures": len(validation),
                "foreign_pictures": len(outliers),
                "foreign_source": outlier_source,
                "foreign_rejected": float((outside > threshold).mean()),
                "auroc": found,
            },
        ),
    )


def least_validation(false_rejection: float) -> int:
    """Return how many validation pictures a threshold at this rate needs."""
    return int(np.ceil(1 / false_rejection)) - 1


def rejection_threshold(scores: Array, false_rejection: float) -> float:
    """Return the threshold that a new inlier is past with at most this probability.

    The order statistic of split conformal prediction: of n scores the ⌈(n + 1)(1 - rate)⌉-th.
    """
    rank = int(np.ceil((len(scores) + 1) * (1 - false_rejection) - 1e-9))
    if rank > len(scores):
        raise ValueError(f"{len(scores)} scores are too few for a rate of {false_rejection:g}")
    return float(np.sort(scores)[rank - 1])


def area_under_roc(inside: Array, outside: Array) -> float:
    """Return the probability that an outlier scores higher than an inlier; ties count half."""
    ranked = np.sort(inside)
    below = np.searchsorted(ranked, outside, "left") + np.searchsorted(ranked, outside, "right")
    return float(below.mean() / (2 * len(inside)))


def _choice(found: Mapping[str, Mapping[str, float]]) -> str:
    means = {name: float(np.mean(list(areas.values()))) for name, areas in found.items()}
    best = max(means.values())
    # The table is in the order of size.
    return next(name for name in FITS if means.get(name, -np.inf) >= best - _WORTH)


def _held_out_areas(
    features: Array, targets: Array, validation: Array, validation_targets: Array
) -> dict[str, float]:
    """Return the mean AUROC of each score over groups of classes that are left out in turn."""
    areas: dict[str, list[float]] = {name: [] for name in FITS}
    for kept_classes, left_out in _folds(targets, validation_targets):
        kept = np.flatnonzero(np.isin(targets, kept_classes))
        kept = _sample(kept, _COMPARED_PICTURES)
        inliers = validation[np.isin(validation_targets, kept_classes)]
        outliers = np.concatenate(
            [
                features[np.isin(targets, left_out)],
                validation[np.isin(validation_targets, left_out)],
            ]
        )
        outliers = outliers[_sample(np.arange(len(outliers)), _COMPARED_PICTURES)]
        head = _head(features[kept], targets[kept])
        for name, fit in FITS.items():
            score = fit(features[kept], targets[kept], head)
            assert score is not None  # there is a head
            inside, outside = (
                score.score(rows, head.probabilities(rows)) for rows in (inliers, outliers)
            )
            areas[name].append(area_under_roc(inside, outside))
    return {name: float(np.mean(found)) for name, found in areas.items()}


def _folds(targets: Array, validation_targets: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the classes that stay and those that are left out."""
    random = np.random.default_rng(_SEED)
    classes = np.intersect1d(targets, validation_targets)
    classes = random.permutation(classes)[:_COMPARED_CLASSES]
    for group in range(min(_FOLDS, len(classes))):
        left_out = np.arange(len(classes)) % _FOLDS == group
        if not left_out.all():
            yield classes[~left_out], classes[left_out]


def _head(features: Array, targets: Array) -> SoftmaxRegression:
    return fit_softmax_regression(features, np.unique(targets, return_inverse=True)[1])


def _sample(indices: Array, most: int) -> Array:
    """Return at most so many of the indices, in their order."""
    chosen = np.random.default_rng(_SEED).permutation(len(indices))[:most]
    return np.asarray(indices[np.sort(chosen)])
