"""Where a run's pictures are now: as run.json says, or below `--data` if they have moved."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fic_runtime.results import check_apart

from ..data import Source
from ..runs import Run
from ..runs.run import ValidationRow


def recorded_source(run: Run) -> Source | None:
    """Return the pictures that a run was trained on; None where run.json does not say."""
    try:
        recorded = run.record["source"]
        return Source(
            val_split=float(recorded["val_split"]),
            **{name: recorded[name] for name in ("data", "train", "val")},
        )
    except (KeyError, TypeError, ValueError):
        return None


def moved_source(run: Run, data: Path | None) -> Source | None:
    """Return the run's pictures in their new place; None where `data` is another data set.

    They have moved there if none of the validation pictures is where it was, and most of them are
    at the same places below `data`. Two folders, `--train` and `--val`, are looked for under their
    names in `data`, or beside it.
    """
    recorded = recorded_source(run)
    if data is None or recorded is None or any(row.path.is_file() for row in run.validation()):
        return None
    for candidate in _candidates(recorded, data):
        rows = list(_moved_rows(run, recorded, candidate))
        if 2 * sum(row.path.is_file() for row in rows) > len(run.validation()):
            return candidate
    return None


def validation_rows(run: Run, moved: Source | None) -> Sequence[ValidationRow]:
    """Return the validation pictures of a run, where they are now."""
    recorded = recorded_source(run)
    if moved is None or recorded is None:
        return run.validation()
    return list(_moved_rows(run, recorded, moved))


def check_apart_from_pictures(run: Run, outputs: Sequence[Path], *others: Path | None) -> None:
    """Refuse outputs among the pictures of a run, or among others.

    Raises:
        OutputError: an output lies there.
    """
    source = recorded_source(run)
    places = [*([] if source is None else source.paths), *filter(None, others)]
    for output in outputs:
        check_apart(output, [place for place in places if place.is_dir()])


def _candidates(recorded: Source, data: Path) -> Iterator[Source]:
    if recorded.data is not None:
        yield replace(recorded, data=data)
        return
    if recorded.train is None or recorded.val is None:
        return
    for home in (data, data.parent):
        train, val = home / recorded.train.name, home / recorded.val.name
        if train.exists() and val.exists():
            yield replace(recorded, train=train, val=val)


def _moved_rows(run: Run, recorded: Source, moved: Source) -> Iterator[ValidationRow]:
    old, new = _root(recorded), _root(moved)
    for row in run.validation():
        if row.path.is_relative_to(old):
            yield replace(row, path=new / row.path.relative_to(old))


def _root(source: Source) -> Path:
    """Return the folder that holds the validation pictures."""
    path = source.val if source.data is None else source.data
    assert path is not None  # `Source` makes sure
    # A list holds paths from its own folder.
    return path.parent if path.suffix.lower() == ".csv" and not path.is_dir() else path
