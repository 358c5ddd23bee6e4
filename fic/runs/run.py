"""The run folder: what `fic train` writes and the other commands read."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fic_export.errors import OutputError
from fic_runtime.results import check_replaceable, replacing_folder

from ..bases.frozen import FrozenBase
from ..data.remote import location
from ..errors import CacheError, HeadError, RunError
from ..fingerprint import Fingerprint
from ..heads.keras_files import load_head, save_head
from ..options import BaseOptions, CacheOptions, TrainingOptions

if TYPE_CHECKING:
    import keras

FORMAT = 1
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.csv"
LABELS_FILE = "labels.txt"
HEAD_FILE = "head.keras"
REPORT_FILE = "report.html"
VALIDATION_FILE = "validation.csv"
BASE_WEIGHTS_FILE = "base.weights.h5"

_FILES = frozenset(
    {
        RUN_FILE,
        METRICS_FILE,
        HISTORY_FILE,
        LABELS_FILE,
        HEAD_FILE,
        REPORT_FILE,
        VALIDATION_FILE,
        BASE_WEIGHTS_FILE,
    }
)
# What a desktop leaves in a folder that somebody looks at.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})

# Options that had other names in the runs that were written first.
_FORMER_NAMES = {"base": {"tensor": "layer"}, "bottlenecks": {"create": "recompute"}}

_NUMBERS = re.compile(r"\[\n\s+((?:-?[\d.eE+-]+,?\n\s+)+)\]")  # strings hold no line breaks

_Options = TypeVar("_Options", BaseOptions, CacheOptions, TrainingOptions)


@dataclass(frozen=True, kw_only=True)
class ValidationRow:
    """Prediction of the head for one validation picture."""

    path: Path
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """Results of a training.

    Attributes:
        record: content of `run.json`.
        metrics: content of `metrics.json`, the figures of the validation under `val`.
        history: loss and accuracy of each epoch.
        validation: the validation pictures with the head's answers.
    """

    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    validation: Sequence[ValidationRow]


@dataclass(frozen=True)
class Run:
    """A trained classifier on disk: its options, its labels, its head and its figures.

    `bottleneck_dir` is the cache to use instead of the one that the run was trained with.
    """

    folder: Path
    bottleneck_dir: Path | None = None

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The content of `run.json`.

        Raises:
            RunError: no run there, or written by a newer fic.
        """
        return read_record(self.folder / RUN_FILE)

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """The content of `metrics.json`.

        Raises:
            RunError: it is missing or damaged.
        """
        metrics = _read_json(self.folder / METRICS_FILE)
        if not isinstance(metrics.get("val"), dict):
            raise RunError(f"{self.folder / METRICS_FILE}: has no 'val'; train again")
        return metrics

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the head's outputs."""
        labels = self._field("labels")
        if not isinstance(labels, list):
            raise RunError(f"{self.folder / RUN_FILE}: 'labels' is not a list; train again")
        return tuple(str(label) for label in labels)

    @property
    def base_options(self) -> BaseOptions:
        """Base that the head was trained on."""
        return self._options("base", BaseOptions)

    @property
    def cache_options(self) -> CacheOptions:
        """Cache of the run's bottlenecks, also for those of other pictures."""
        options = self._options("bottlenecks", CacheOptions)
        folder = self.bottleneck_dir or location(options.bottleneck_dir)
        return replace(options, bottleneck_dir=folder, recompute=False)

    def frozen_base(self) -> FrozenBase:
        """Return the base that the head was trained on, known without building it.

        Raises:
            RunError: the base was fine-tuned, and the file of its weights is missing.
        """
        fingerprint = self._fingerprint
        tuned = self.folder / BASE_WEIGHTS_FILE if self.record.get("base_weights") else None
        if tuned is not None and not tuned.is_file():
            raise RunError(f"{tuned}: is missing; put it back or train again")
        return FrozenBase(
            self.base_options,
            self.cache_options.bottleneck_dir,
            dtype=fingerprint.dtype,
            fingerprint=fingerprint,
            tuned_weights=tuned,
        )

    def validation(self) -> list[ValidationRow]:
        """Return the validation pictures with their labels and the head's answers.

        Raises:
            RunError: `validation.csv` is missing or damaged.
        """
        path = self.folder / VALIDATION_FILE
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [
                    ValidationRow(
                        path=location(row["path"]),
                        label=row["label"],
                        predicted=row["predicted"],
                        probability=float(row["probability"]),
                    )
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise RunError(f"{path}: cannot be read ({error}); train again") from error

    def head(self) -> "keras.Model":
        """Load the trained head, from bottleneck to probabilities.

        Raises:
            RunError: `head.keras` is missing, damaged, or the head of another run.
        """
        path = self.folder / HEAD_FILE
        try:
            return load_head(path, self._fingerprint, self.labels, remedy="train again")
        except HeadError as error:
            raise RunError(str(error)) from error

    @property
    def _fingerprint(self) -> Fingerprint:
        try:
            return Fingerprint.from_dict(self._field("fingerprint"))
        except CacheError as error:
            raise RunError(f"{self.folder / RUN_FILE}: {error}; train again") from error

    def _options(self, section: str, kind: type[_Options]) -> _Options:
        values = self._field(section)
        known = {field.name for field in fields(kind)}
        try:
            return kind(**{name: value for name, value in values.items() if name in known})
        except (TypeError, AttributeError) as error:
            raise RunError(
                f"{self.folder / RUN_FILE}: {section!r} makes no sense ({error}); train again"
            ) from error

    def _field(self, name: str) -> Any:
        try:
            return self.record[name]
        except KeyError:
            raise RunError(f"{self.folder / RUN_FILE}: has no {name!r}; train again") from None


def read_record(path: Path) -> Mapping[str, Any]:
    """Return the content of a `run.json`, given the file or its folder.

    Raises:
        RunError: it is missing, damaged, or written by a newer fic.
    """
    path = path / RUN_FILE if path.is_dir() else path
    record = _read_json(path)
    if record.get("format") != FORMAT:
        raise RunError(
            f"{path}: format {record.get('format')!r} is not the one that this fic reads "
            f"({FORMAT}); upgrade fic or train again"
        )
    for name, former in _FORMER_NAMES.items():
        if isinstance(record.get(name), dict):
            values = {former.get(key, key): value for key, value in record[name].items()}
            record = {**record, name: values}
    return record


def check_run_folder(folder: Path) -> None:
    """Make sure that a run may be written to `folder`, in place of a run at most.

    Raises:
        OutputError: it holds something else, alone or beside a run; a run replaces the folder.
    """
    check_replaceable(folder, mark=RUN_FILE)
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name not in _FILES | _LITTER:
                raise OutputError(
                    f"{folder}: holds {entry.name} beside an earlier run, and a new run replaces "
                    "the folder; move it away or give another folder"
                )


def write_run(
    folder: Path,
    results: RunResults,
    *,
    labels: Sequence[str],
    head: "keras.Model",
    report: str,
    base: "keras.Model | None" = None,
) -> Run:
    """Write a run folder whole, in place of an earlier run if there is one.

    Args:
        folder: the run folder.
        results: results of the training.
        labels: the class names, in the order of the head's outputs.
        head: from bottleneck to probabilities.
        report: the page `report.html`.
        base: the base, if the run has one of its own because it was fine-tuned.

    Raises:
        OutputError: the folder holds something that is not a run.
    """
    check_run_folder(folder)
    with replacing_folder(folder, mark=RUN_FILE) as temporary:
        save_head(head, temporary / HEAD_FILE)
        own_base = None if base is None else BASE_WEIGHTS_FILE
        if base is not None:
            base.save_weights(temporary / BASE_WEIGHTS_FILE)
        content = {
            "format": FORMAT,
            **results.record,
            "base_weights": own_base,
            "labels": list(labels),
        }
        _write_json(temporary / RUN_FILE, content)
        _write_json(temporary / METRICS_FILE, results.metrics)
        (temporary / HISTORY_FILE).write_text(_csv(results.history), encoding="utf-8", newline="")
        (temporary / LABELS_FILE).write_text(
            "".join(f"{label}\n" for label in labels), encoding="utf-8"
        )
        answers = [asdict(answer) for answer in results.validation]
        (temporary / VALIDATION_FILE).write_text(_csv(answers), encoding="utf-8", newline="")
        (temporary / REPORT_FILE).write_text(report, encoding="utf-8")
    return Run(folder)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent}: no {path.name} there; give a folder that `fic train` wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); train again") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: is not a JSON object; train again")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
    # The rows of a matrix on a line each, instead of a line for each number.
    text = _NUMBERS.sub(
        lambda found: "[" + ", ".join(found[1].split()).replace(",,", ",") + "]", text
    )
    path.write_text(text + "\n", encoding="utf-8")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
