"""A run folder is written: the head first, and nothing that was trained is lost."""

import csv
import io
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_export.errors import OutputError
from fic_runtime.results import (
    cannot_write,
    home_of,
    link_or_copy,
    real_path,
    replacing_folder,
    whole_file,
)

from ..heads.dense import Head
from ..heads.keras_files import save_head, save_weights
from .csv_cells import escaped
from .run import (
    BASE_WEIGHTS_FILE,
    FORMAT,
    HEAD_FILE,
    HISTORY_FILE,
    LABELS_FILE,
    METRICS_FILE,
    REPORT_FILE,
    RUN_FILE,
    RUN_FILES,
    TUNING_FILE,
    VALIDATION_FILE,
    Run,
    RunResults,
    check_run_folder,
    previous_run,
    text_of_path,
)

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

_NUMBERS = re.compile(r"\[\n\s+((?:-?[\d.eE+-]+,?\n\s+)+)\]")  # strings hold no line breaks


def write_run(
    folder: Path,
    results: Callable[[], tuple[RunResults, str]],
    *,
    labels: Sequence[str],
    head: Head,
    base: "keras.Model | None" = None,
    spare: Path,
) -> Run:
    """Write a run folder whole; an earlier run there goes to `previous_run(folder)`.

    It grows in `FOLDER.unfinished`, the head first, and stays there if it cannot be finished.

    Args:
        folder: the run folder.
        results: called once the head is on the disk, for the results and the page `report.html`.
        labels: the class names, in the order of the head's outputs.
        head: from bottleneck to probabilities.
        base: the base, if the run has one of its own because it was fine-tuned.
        spare: folder that takes the run where the disk of `folder` cannot.

    Raises:
        OutputError: the folder holds something that is not a run, or cannot be written; the message
            says where the run is.
    """
    check_run_folder(folder)
    results = cache(results)

    def write(place: Path) -> None:
        save_head(head, place / HEAD_FILE)
        (place / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), "utf-8")
        if base is not None:
            save_weights(base, place / BASE_WEIGHTS_FILE)
        _write_results(place, *results(), labels=labels, own_base=base is not None)

    place, failure = _written(write, folder, spare)
    try:
        if failure is not None:
            raise failure
        names = {*RUN_FILES, place.name}
        keep = previous_run(folder)
        with replacing_folder(folder, mark=RUN_FILE, names=names, keep=keep) as temporary:
            for file in sorted(place.iterdir()):
                link_or_copy(file, temporary / file.name)
    except (OSError, OutputError) as error:
        reason = error if isinstance(error, OutputError) else cannot_write(folder, error)
        raise OutputError(
            f"{str(reason).partition(';')[0]}; what was trained is in {place}, move it from there"
        ) from error
    shutil.rmtree(place, ignore_errors=True)
    return Run(folder)


def add_tuning(run: Run, tuning: Mapping[str, Any], *, page: str) -> None:
    """Add to a run what was tried before its training: `tuning` in `run.json`, and a page.

    Raises:
        OutputError: it cannot be written; the run is there without it.
    """
    content = {**run.record, "tuning": tuning}
    for name, write in (
        (TUNING_FILE, lambda file: file.write_text(page, "utf-8", errors="backslashreplace")),
        (RUN_FILE, lambda file: _write_json(file, content)),
    ):
        try:
            with whole_file(run.folder / name) as part:
                write(part)
        except OSError as error:
            reason = cannot_write(run.folder / name, error)
            raise OutputError(f"{reason}; the run itself is whole, in {run.folder}") from error


def _written(
    write: Callable[[Path], None], folder: Path, spare: Path
) -> tuple[Path, OSError | None]:
    """Return where the run was written, and why not beside its folder."""
    failure, halves = None, []
    for home in _homes(folder, spare):
        place = None
        try:
            place = _new_folder(home, f"{real_path(folder).name}.unfinished")
            write(place)
        except OSError as error:
            failure = failure or error
            if place is not None:
                halves.append(place)
        except BaseException:
            if place is not None and (place / HEAD_FILE).is_file():
                log.warning("the head that was trained is in %s", place)
            raise
        else:
            for half in halves:
                shutil.rmtree(half, ignore_errors=True)
            return place, failure
    for half in halves:
        if (half / LABELS_FILE).is_file():  # which comes after the head
            return half, failure
        shutil.rmtree(half, ignore_errors=True)
    assert failure is not None
    raise cannot_write(folder, failure) from failure


def _homes(folder: Path, spare: Path) -> Iterator[Path]:
    yield home_of(real_path(folder))
    yield spare
    # There may be none, as in a container whose root is read-only.
    with suppress(FileNotFoundError):
        yield Path(tempfile.gettempdir())


def _new_folder(home: Path, name: str) -> Path:
    number, place = 1, home / name
    while True:
        try:
            place.mkdir(parents=True)
            return place
        except FileExistsError:  # of a training that did not end, or that goes on
            number += 1
            place = home / f"{name}-{number}"


def _write_results(
    folder: Path, results: RunResults, report: str, *, labels: Sequence[str], own_base: bool
) -> None:
    content = {
        "format": FORMAT,
        **results.record,
        "base_weights": BASE_WEIGHTS_FILE if own_base else None,
        "labels": list(labels),
    }
    _write_json(folder / RUN_FILE, content)
    _write_json(folder / METRICS_FILE, results.metrics)
    (folder / HISTORY_FILE).write_text(_csv(results.history), encoding="utf-8", newline="")
    answers = [
        {**asdict(answer), "path": text_of_path(answer.path)} for answer in results.validation
    ]
    (folder / VALIDATION_FILE).write_text(_csv(answers), encoding="utf-8", newline="")
    # A name of a file may be no text.
    (folder / REPORT_FILE).write_text(report, encoding="utf-8", errors="backslashreplace")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
    # The rows of a matrix on a line each, instead of a line for each number.
    text = _NUMBERS.sub(
        lambda found: "[" + ", ".join(found[1].split()).replace(",,", ",") + "]", text
    )
    # Of what UTF-8 lacks, half a surrogate pair, JSON has the same escape as Python.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: escaped(value) for name, value in row.items()} for row in rows)
    return text.getvalue()
