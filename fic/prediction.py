"""Predictions and accuracy of a run before its export."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.heads.head import are_finite
from fic_runtime.images import load_image
from fic_runtime.images.picture_files import FileUse, Listing, list_pictures
from fic_runtime.predictions import Prediction
from fic_runtime.results import check_apart

from .bases.keras_setup import keras_settings
from .bottlenecks import prepare
from .bottlenecks.engines import choose_engine
from .bottlenecks.extraction import no_numbers
from .bottlenecks.single_reading import FirstReading
from .data import Pictures, Source
from .data.remote import location
from .data.source import read_validation
from .errors import DataError, RunError
from .heads.standalone import HeadFile
from .options import StrPath
from .progress import Progress, note_files, shown
from .runs import Run, as_run
from .runs.run import METRICS_FILE

_BATCH = 16


class Answers(Iterator[tuple[Path, Prediction | ImageError]]):
    """Each picture with its answer, in turn, and what became of all files that were found.

    Attributes:
        files: what became of them; `files.left_out` are those that are no pictures.
    """

    def __init__(
        self, pairs: Iterator[tuple[Path, Prediction | ImageError]], files: FileUse
    ) -> None:
        self._pairs = pairs
        self.files = files

    def __next__(self) -> tuple[Path, Prediction | ImageError]:
        return next(self._pairs)


def predict_files(
    run: StrPath | Run | HeadFile,
    images: StrPath | Iterable[StrPath],
    *,
    bottleneck_dir: StrPath | None = None,
) -> Answers:
    """Classify image files and folders of them, in natural order.

    Args:
        run: folder that `fic train` wrote, what `train` returned, or a head saved by itself.
        images: files and folders, or one of them.
        bottleneck_dir: the cache that holds or gets the converted base, if not the one of `run`.

    Returns:
        An iterator over each file with its prediction, or with the error of a file that cannot be
        read; its `files` tells what was left out.

    Raises:
        RunError, HeadError: the run or the head cannot be used.
        ImageError: a folder holds no picture.
    """
    if isinstance(images, str | os.PathLike):
        images = [images]
    trained: Run | HeadFile
    if isinstance(run, HeadFile):
        trained = run
        if bottleneck_dir is not None:
            trained = replace(run, bottleneck_dir=location(bottleneck_dir))
    else:
        trained = as_run(run, bottleneck_dir)
    listing = images if isinstance(images, Listing) else list_pictures(map(Path, images))
    return Answers(_answers(trained, listing.pictures), listing.files)


def _answers(
    trained: Run | HeadFile, files: Sequence[Path]
) -> Iterator[tuple[Path, Prediction | ImageError]]:
    with keras_settings():
        labels, head = trained.labels, trained.quick_head()
        base = trained.frozen_base()
        few = len(files) <= _BATCH
        engine = choose_engine(trained.cache_options.engine, base, few=few).engine
    geometry = base.preprocessing.geometry
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        pixels: list[NDArray[Any]] = []
        errors: dict[Path, ImageError] = {}
        for path in batch:
            try:
                pixels.append(load_image(path, geometry))
            except ImageError as error:
                errors[path] = error
        answers: Iterator[tuple[NDArray[Any], bool]] = iter(())
        if pixels:
            with keras_settings():  # not around the yield: the caller's are the caller's
                bottlenecks = engine.run(np.stack(pixels))
                found = np.asarray(head.predict_on_batch(bottlenecks))
                finite = are_finite(bottlenecks) & are_finite(found)
                answers = zip(found, finite.tolist(), strict=True)
        for path in batch:
            if path in errors:
                yield path, errors[path]
                continue
            row, usable = next(answers)
            if usable:
                yield path, Prediction.from_probabilities(row, labels)
            else:
                yield path, ImageError(no_numbers(path))


@keras_settings()
def evaluate_run(
    run: StrPath | Run,
    data: StrPath,
    *,
    bottleneck_dir: StrPath | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, Any]:
    """Measure a run on a folder of classes or a CSV file; classes of the run may be missing.

    Of a CSV file with the column `split`, the pictures marked `val` are taken.

    Returns:
        The figures of `fic.training.metrics.figures_of`, and which files were skipped and left out,
        by the names that they have in `run.json`.

    Raises:
        RunError: the run cannot be used.
        DataError: the data set has no readable picture, or a class that the run does not know.
    """
    from .training.head import validation_answers
    from .training.metrics import figures_of

    trained, data, progress = as_run(run, bottleneck_dir), location(data), shown(progress)
    cache = replace(trained.cache_options, views=1)
    if bottleneck_dir is not None and data.is_dir():
        check_apart(cache.bottleneck_dir, [data])
    dataset = read_validation(data, labels=trained.labels, on_error="skip")
    base = trained.frozen_base()
    reading = FirstReading(base, Source(data=data), cache, seed=None)
    digests, unreadable = reading([dataset], cache.memo, progress)
    readable = dataset.subset([i for i, path in enumerate(dataset.paths) if path in digests])
    pictures = Pictures(
        train=dataset.subset([]),
        val=readable,
        digests=digests,
        skipped=[*dataset.skipped, *unreadable],
        files=dataset.files,
    )
    _, bottlenecks, use = prepare(pictures, base, cache, progress, reading)
    for picture in use.skipped:
        progress.note(f"skipped: {picture.reason}")
    note_files(use.files, progress)
    if not len(bottlenecks):
        raise DataError(f"{data}: no picture there could be read")
    _note_training(trained, data, readable.paths, progress)
    with bottlenecks.cache:
        answers = validation_answers(trained.quick_head(), bottlenecks)
    return {**figures_of(answers, trained.labels), **use.files_record()}


def _note_training(run: Run, data: Path, paths: Sequence[Path], progress: Progress) -> None:
    """Say so if the run was trained on some of these pictures, whose figures are too good then."""
    source = run.record.get("source")
    known = [source.get("data"), source.get("train")] if isinstance(source, dict) else []
    if str(data.absolute()) not in known:
        return
    try:
        validation = {row.path for row in run.validation()}
    except RunError:
        return  # without that file nothing can be said; the figures do without
    if not all(path.absolute() in validation for path in paths):
        progress.note(
            f"{data}: the run was trained on pictures there, so these figures are too good; "
            f"those of its validation are in {run.folder / METRICS_FILE}"
        )
