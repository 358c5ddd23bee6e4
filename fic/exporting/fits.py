"""What an export fits on a run's cached bottlenecks.

A temperature, an out-of-distribution score, and the statistics from which a device learns more
classes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fic_export.bundle.explanations import linear_head
from fic_export.drawn_pictures import outlier_pictures
from fic_export.errors import ConversionError
from fic_export.fits.ood_scores import SoftmaxRegression
from fic_export.fits.out_of_distribution import (
    Answers,
    FittedScore,
    fit_out_of_distribution,
    why_not,
)
from fic_export.fits.teaching import fit_teaching
from fic_export.fits.temperature import (
    Calibration,
    ends_in_softmax,
    fit_calibration,
    with_temperature,
)
from fic_runtime.errors import ImageError
from fic_runtime.graphs.graph import Graph
from fic_runtime.heads.ood_scores import pooled
from fic_runtime.heads.statistics import ClassStatistics
from fic_runtime.images import load_image
from fic_runtime.images.picture_files import list_pictures
from fic_runtime.preprocessing import Geometry

from ..bases.opening import AnyBase
from ..errors import DataError, RunError
from ..options import ReliabilityOptions
from ..progress import Progress, note_files
from ..runs import Run
from .cached_bottlenecks import CachedPart, RunBottlenecks

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

_BATCH = 16


@dataclass(frozen=True)
class Reliability:
    """A temperature and an out-of-distribution score; None where not asked for or not possible."""

    calibration: Calibration | None = None
    ood_score: FittedScore | None = None


def measure_reliability(
    found: RunBottlenecks | str,
    base: AnyBase,
    head: "keras.Model",
    options: ReliabilityOptions,
    progress: Progress,
) -> Reliability:
    """Fit both on the bottlenecks of the run that the cache has; say why where that cannot be.

    Raises:
        DataError: none of the pictures of `options.foreign` can be read.
    """
    if not (options.calibrate or options.known):
        return Reliability()
    if isinstance(found, str):
        if options.known:
            progress.note(f"no score for unknown pictures: {found}")
        return Reliability(Calibration(reason=found) if options.calibrate else None)
    val = _answers(found.val, lambda block: np.asarray(head.predict_on_batch(block)))
    calibration = None
    if options.calibrate:
        calibration = _calibration(head, val, found.val.targets)
    temperature = 1.0 if calibration is None else calibration.temperature
    if not options.known:
        return Reliability(calibration)

    def answer(bottlenecks: NDArray[Any]) -> NDArray[Any]:
        return with_temperature(np.asarray(head.predict_on_batch(bottlenecks)), temperature)

    val = Answers(
        features=val.features, probabilities=with_temperature(val.probabilities, temperature)
    )
    score = _ood_score(found, val, base, answer, _linear(head), options, progress)
    return Reliability(calibration, score)


def teaching_of(run: Run, found: RunBottlenecks | str) -> ClassStatistics:
    """Fit the statistics on the training bottlenecks that the cache has.

    Raises:
        RunError: the cache has none of them, or none of some class.
    """
    if isinstance(found, str):
        raise RunError(f"{run.folder}: cannot be made teachable: {found}")
    train = found.train
    features = np.concatenate([pooled(block) for block in train.blocks()])
    missing = sorted(set(range(len(run.labels))) - set(train.targets.tolist()))
    if missing:
        raise RunError(
            f"{run.folder}: cannot be made teachable, the cache has no training picture of "
            f"{run.labels[missing[0]]!r}; run `fic extract` on the pictures first"
        )
    return fit_teaching(features, train.targets, len(run.labels))


def _calibration(head: "keras.Model", val: Answers, targets: NDArray[Any]) -> Calibration:
    if not ends_in_softmax(head):
        return Calibration(reason="the head does not end in a softmax")
    return fit_calibration(val.probabilities, targets)


def _ood_score(
    found: RunBottlenecks,
    val: Answers,
    base: AnyBase,
    answer: Callable[[NDArray[Any]], NDArray[Any]],
    linear: SoftmaxRegression | None,
    options: ReliabilityOptions,
    progress: Progress,
) -> FittedScore | None:
    train = found.train
    classes = len(np.intersect1d(train.targets, found.val.targets))
    if reason := why_not(classes, len(train), len(val), options.false_rejection):
        progress.note(f"no score for unknown pictures: {reason}")
        return None
    outliers = _outliers(base, answer, options.foreign, progress)
    return fit_out_of_distribution(
        np.concatenate([pooled(block) for block in train.blocks()]),
        train.targets,
        validation=val,
        validation_targets=found.val.targets,
        outliers=outliers,
        outlier_source="drawn" if options.foreign is None else "files",
        false_rejection=options.false_rejection,
        linear=linear,
    )


def _linear(head: "keras.Model") -> SoftmaxRegression | None:
    try:
        weights = linear_head(head)
    except ConversionError:
        return None
    return SoftmaxRegression(weights.kernel, weights.bias)


def _answers(part: CachedPart, answer: Callable[[NDArray[Any]], NDArray[Any]]) -> Answers:
    pairs = [(pooled(block), answer(block)) for block in part.blocks()]
    features, probabilities = zip(*pairs, strict=True)
    return Answers(features=np.concatenate(features), probabilities=np.concatenate(probabilities))


def _outliers(
    base: AnyBase,
    answer: Callable[[NDArray[Any]], NDArray[Any]],
    folder: Path | None,
    progress: Progress,
) -> Answers:
    geometry = base.preprocessing.geometry
    pictures: Iterable[NDArray[Any]]
    if folder is None:
        pictures = drawn = outlier_pictures(geometry)
        count = len(drawn)
    else:
        listing = list_pictures([folder])
        note_files(listing.files, progress, place=folder)
        pictures, count = _readable(listing, geometry), len(listing)
    graph = Graph(base.graph_file(), device="cpu")
    features, probabilities = [], []
    progress.start("looking at outliers", count, unit="image")
    remaining = iter(pictures)
    try:
        while batch := list(islice(remaining, _BATCH)):
            bottlenecks = graph.run(np.stack(batch))
            features.append(pooled(bottlenecks))
            probabilities.append(answer(bottlenecks))
            progress.advance(len(batch))
    finally:
        progress.finish()
    if not features:
        raise DataError(f"{folder}: none of its pictures can be read; give --foreign another one")
    return Answers(features=np.concatenate(features), probabilities=np.concatenate(probabilities))


def _readable(files: Iterable[Path], geometry: Geometry) -> Iterator[NDArray[Any]]:
    for file in files:
        try:
            yield load_image(file, geometry)
        except ImageError as error:
            log.warning("not looked at: %s", error)
