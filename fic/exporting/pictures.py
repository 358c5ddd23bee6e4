"""Pictures of an export: those it is compared on, and those for the ranges of int8."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from fic_runtime.errors import ImageError
from fic_runtime.preprocessing import Geometry

from ..data import Dataset, Source, Split
from ..data.remote import location, read_picture
from ..data.source import read_dataset, read_validation
from ..errors import FicError, RunError
from ..progress import Progress, Silence, note_files
from ..runs import Run
from .whereabouts import validation_rows

log = logging.getLogger(__name__)


ByClass = Mapping[str, Sequence[Path]]


def comparison_pictures(
    run: Run,
    data: Path | None,
    geometry: Geometry,
    number: int,
    moved: Source | None,
    progress: Progress,
) -> list[tuple[Path, str]]:
    """Return readable validation pictures with their labels, one of each class in turn.

    Args:
        run: the run whose validation pictures are taken.
        data: folder or CSV file of pictures instead; of a CSV file with the column `split`, those
            marked `val`.
        geometry: what they are read for.
        number: how many at most.
        moved: where the run's pictures are now, if they have moved; its validation pictures then.
        progress: hears of files of `data` that are left out.

    Raises:
        RunError: there are none.
        DataError: `data` cannot be used.
    """
    chosen = _readable(_by_class(run, data, moved, progress), geometry, number)
    if not chosen:
        raise RunError(
            f"{data or run.folder}: none of its pictures can be read; "
            "give --data with other pictures"
        )
    return chosen


def calibration_files(
    run: Run,
    data: Path | None,
    geometry: Geometry,
    number: int,
    moved: Source | None,
    progress: Progress,
) -> list[Path]:
    """Return readable training pictures, one of each class in turn, in an order that is mixed.

    Args:
        run: the run whose training pictures are taken.
        data: folder or CSV file of training pictures instead.
        geometry: what they are read for.
        number: how many at most.
        moved: where the run's pictures are now, if they have moved.
        progress: hears of files of `data` that are left out.

    Raises:
        RunError: there are none.
        DataError: `data` cannot be used.
    """
    chosen = _readable(training_pictures(run, data, moved, progress), geometry, number)
    if not chosen:
        raise RunError(
            f"{data or run.folder}: none of its training pictures can be read; "
            "give --calibration-data with other pictures"
        )
    return [path for path, _ in chosen]


def training_pictures(
    run: Run,
    data: Path | None = None,
    moved: Source | None = None,
    progress: Progress | None = None,
) -> ByClass:
    """Return the training pictures of each class, in an order that is mixed but always the same.

    Those of a folder or file that was split are all that were not validated on.

    Args:
        data: folder or CSV file of training pictures instead of the run's own; of a CSV file with
            the column `split`, those marked `train`.
        moved: where the run's pictures are now, if they have moved.
        progress: hears of files of `data` that are left out.

    Raises:
        RunError: none of them is where it was.
        DataError: `data` cannot be used.
    """
    if data is not None:
        dataset, taken = _read(data), set[Path]()
        note_files(dataset.files, progress or Silence(), place=data)
    else:
        dataset = _of_record(run) if moved is None else _read(moved.train or moved.paths[0])
        taken = {row.path for row in validation_rows(run, moved)}
    by_class: dict[str, list[Path]] = {name: [] for name in dataset.labels}
    for index in np.random.default_rng(0).permutation(len(dataset.paths)):
        path = dataset.paths[index]
        if path not in taken:
            by_class[dataset.labels[dataset.targets[index]]].append(path)
    if not any(by_class.values()):
        raise RunError(
            f"{data or run.folder}: none of its training pictures is left; give "
            "--calibration-data with pictures like those it was trained on"
        )
    return by_class


def in_turn(by_class: Mapping[str, Sequence[Path]]) -> Iterator[tuple[Path, str]]:
    """Yield the pictures with their labels, taking one of each class in turn."""
    labelled = ([(path, label) for path in paths] for label, paths in by_class.items())
    turns = chain.from_iterable(zip_longest(*labelled))
    return (pair for pair in turns if pair is not None)


def _by_class(
    run: Run, data: Path | None, moved: Source | None, progress: Progress
) -> dict[str, list[Path]]:
    by_class: dict[str, list[Path]] = {}
    if data is not None and moved is None:
        dataset = read_validation(data, on_error="skip")
        note_files(dataset.files, progress, place=data)
        for path, label in zip(dataset.paths, dataset.targets, strict=True):
            by_class.setdefault(dataset.labels[label], []).append(path)
        return by_class
    for row in validation_rows(run, moved):
        if row.path.is_file():
            by_class.setdefault(row.label, []).append(row.path)
    if not by_class:
        raise RunError(
            f"{run.folder}: none of its validation pictures is where it was; "
            "give --data with other pictures"
        )
    return by_class


def _readable(
    by_class: Mapping[str, Sequence[Path]], geometry: Geometry, number: int
) -> list[tuple[Path, str]]:
    candidates = in_turn(by_class)
    return list(islice((pair for pair in candidates if _is_readable(pair[0], geometry)), number))


def _is_readable(path: Path, geometry: Geometry) -> bool:
    try:
        read_picture(path, geometry)
    except ImageError as error:
        log.warning("not compared: %s", error)
        return False
    return True


def _of_record(run: Run) -> Dataset:
    source = run.record.get("source")
    path = (source.get("train") or source.get("data")) if isinstance(source, dict) else None
    if not path:
        raise RunError(
            f"{run.folder}: run.json does not say where its training pictures are; give "
            "--calibration-data with pictures like those it was trained on"
        )
    try:
        return _read(location(path))
    except FicError as error:
        raise RunError(
            f"{run.folder}: its training pictures cannot be found ({error}); give "
            "--calibration-data with pictures like those it was trained on"
        ) from error


def _read(path: Path) -> Dataset:
    data = read_dataset(path, on_error="skip")
    return replace(data.train, files=data.files) if isinstance(data, Split) else data
