"""The pictures that a run was trained on, found again from its record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import Dataset, Split
from ..data.source import read_dataset
from ..errors import FicError, RunError
from ..runs import Run

ByClass = Mapping[str, Sequence[Path]]


def training_pictures(run: Run, data: Path | None = None) -> ByClass:
    """Return the training pictures of each class, in an order that is mixed but always the same.

    Those of a folder or file that was split are all that were not validated on.

    Args:
        data: folder or CSV file of training pictures instead of the run's own; of a CSV file with
            the column `split`, those marked `train`.

    Raises:
        RunError: none of them is where it was.
        DataError: `data` cannot be used.
    """
    dataset = _read(data) if data is not None else _of_record(run)
    taken = set() if data is not None else {row.path for row in run.validation()}
    by_class: dict[str, list[Path]] = {name: [] for name in dataset.classes}
    for place in np.random.default_rng(0).permutation(len(dataset.paths)):
        path = dataset.paths[place]
        if path not in taken:
            by_class[dataset.classes[dataset.labels[place]]].append(path)
    if not any(by_class.values()):
        raise RunError(
            f"{data or run.folder}: none of its training pictures is left; give "
            "--calibration-data with pictures like those it was trained on"
        )
    return by_class


def _of_record(run: Run) -> Dataset:
    source = run.record.get("source")
    place = (source.get("train") or source.get("data")) if isinstance(source, dict) else None
    if not place:
        raise RunError(
            f"{run.folder}: run.json does not say where its training pictures are; give "
            "--calibration-data with pictures like those it was trained on"
        )
    try:
        return _read(Path(place))
    except FicError as error:
        raise RunError(
            f"{run.folder}: its training pictures cannot be found ({error}); give "
            "--calibration-data with pictures like those it was trained on"
        ) from error


def _read(place: Path) -> Dataset:
    data = read_dataset(place)
    return data.train if isinstance(data, Split) else data
