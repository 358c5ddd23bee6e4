"""The run folder: what `fic train` writes and the other commands read."""

import csv
import io
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fic_export.errors import OutputError
from fic_runtime.bundle import MANIFEST_FILE
from fic_runtime.bundle.labels import is_label
from fic_runtime.reading import read_json, read_regular
from fic_runtime.results import check_replaceable, check_writable, real_path

from ..bases.frozen import is_cache
from ..bases.opening import AnyBase, open_base
from ..data.remote import is_url, location
from ..errors import CacheError, HeadError, RunError, one_line
from ..fingerprint import Fingerprint
from ..heads.dense import Head
from ..heads.keras_files import load_head, open_head
from ..options import BaseOptions, CacheOptions, StrPath, TrainingOptions
from .csv_cells import unescaped
from .recorded_options import recorded_options

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

FORMAT = 1
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.csv"
LABELS_FILE = "labels.txt"
HEAD_FILE = "head.keras"
REPORT_FILE = "report.html"
TUNING_FILE = "tuning.html"
VALIDATION_FILE = "validation.csv"
BASE_WEIGHTS_FILE = "base.weights.h5"

RUN_FILES: frozenset[str] = frozenset(
    {
        RUN_FILE,
        METRICS_FILE,
        HISTORY_FILE,
        LABELS_FILE,
        HEAD_FILE,
        REPORT_FILE,
        TUNING_FILE,
        VALIDATION_FILE,
        BASE_WEIGHTS_FILE,
    }
)
# Options that had other names in the runs that were written first.
_FORMER_NAMES = {"base": {"tensor": "layer"}, "bottlenecks": {"create": "recompute"}}

# Bytes of the files of a run that are read: ten times what a million pictures and five thousand
# classes take.
_MOST_BYTES = 1 << 30
_ESCAPE = re.compile(r"\\u(dc[89a-f][0-9a-f])")

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

    It stands for its folder wherever a path is taken.

    `bottleneck_dir` is the cache to use instead of the one that the run was trained with. A run
    may be a stranger's: it gets read, it says where pictures are, and nothing is written to a
    place that it names unless a cache is there already.
    """

    folder: Path
    bottleneck_dir: Path | None = None

    if TYPE_CHECKING:

        def __init__(self, folder: StrPath, bottleneck_dir: StrPath | None = None) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if self.bottleneck_dir is not None:
            object.__setattr__(self, "bottleneck_dir", location(self.bottleneck_dir))

    def __fspath__(self) -> str:
        return str(self.folder)

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
        classes = metrics["val"].get("per_class", {})
        if not isinstance(classes, dict) or not all(map(_are_of_a_class, classes.values())):
            raise RunError(f"{self.folder / METRICS_FILE}: 'per_class' is damaged; train again")
        if not _are_finite(metrics["val"]):
            raise RunError(f"{self.folder / METRICS_FILE}: figures are not finite; train again")
        return metrics

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the head's outputs."""
        labels = self._field("labels")
        if not isinstance(labels, list):
            raise RunError(f"{self.folder / RUN_FILE}: 'labels' is not a list; train again")
        if not all(isinstance(label, str) and is_label(label) for label in labels):
            raise RunError(
                f"{self.folder / RUN_FILE}: 'labels' holds what is not one line of text; train "
                "again"
            )
        return tuple(labels)

    @property
    def base_options(self) -> BaseOptions:
        """Base that the head was trained on."""
        return self._options("base", BaseOptions)

    @property
    def cache_options(self) -> CacheOptions:
        """Cache of the run's bottlenecks, also for those of other pictures.

        Where the run names a folder that holds no cache, that of the working folder is used.
        """
        options = self._options("bottlenecks", CacheOptions)
        folder = self.bottleneck_dir or self._recorded_cache(options.bottleneck_dir)
        return replace(options, bottleneck_dir=folder, recompute=False)

    @property
    def skipped(self) -> Mapping[Path, str]:
        """Pictures that could not be read in the training, each with the reason in a sentence."""
        return self._files("skipped_files", "reason")

    @property
    def left_out(self) -> Mapping[Path, str]:
        """Files that were found and not used, each with its kind; none in runs of fic 0.1."""
        return self._files("left_out_files", "kind")

    def frozen_base(self) -> AnyBase:
        """Return the base that the head was trained on, known without building it.

        Raises:
            RunError: the base was fine-tuned, and the file of its weights is missing.
        """
        fingerprint = self._fingerprint
        tuned = self.folder / BASE_WEIGHTS_FILE if self.record.get("base_weights") else None
        if tuned is not None and not tuned.is_file():
            raise RunError(f"{tuned}: is missing; put it back or train again")
        return open_base(
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
            text = io.StringIO(read_regular(path, _MOST_BYTES).decode("utf-8"), newline="")
            return [
                ValidationRow(
                    path=path_of_text(_file_name(unescaped(row["path"]))),
                    label=unescaped(row["label"]),
                    predicted=unescaped(row["predicted"]),
                    probability=_probability(row["probability"]),
                )
                for row in csv.DictReader(text)
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise _unreadable(path, error) from error

    def history(self) -> list[dict[str, float]]:
        """Return loss and accuracy of each epoch; none where nothing was trained.

        Raises:
            RunError: `history.csv` is missing or damaged.
        """
        path = self.folder / HISTORY_FILE
        try:
            text = io.StringIO(read_regular(path, _MOST_BYTES).decode("utf-8"), newline="")
            return [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(text)
            ]
        except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
            raise _unreadable(path, error) from error

    def results(self) -> RunResults:
        """Return the results of the training.

        Raises:
            RunError: one of the files is missing or damaged.
        """
        return RunResults(
            record=self.record,
            metrics=self.metrics,
            history=self.history(),
            validation=self.validation(),
        )

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

    def _files(self, name: str, why: str) -> dict[Path, str]:
        try:
            return {location(row["file"]): str(row[why]) for row in self.record.get(name, ())}
        except (KeyError, TypeError) as error:
            raise RunError(f"{self.folder / RUN_FILE}: {name!r} is damaged; train again") from error

    def quick_head(self) -> Head:
        """Load the trained head, without Keras where it is a linear or mlp one.

        Raises:
            RunError: see `head`.
        """
        path = self.folder / HEAD_FILE
        try:
            return open_head(path, self._fingerprint, self.labels, remedy="train again")
        except HeadError as error:
            raise RunError(str(error)) from error

    @property
    def _fingerprint(self) -> Fingerprint:
        try:
            return Fingerprint.from_dict(self._field("fingerprint"))
        except CacheError as error:
            raise RunError(f"{self.folder / RUN_FILE}: {error}; train again") from error

    def _recorded_cache(self, folder: Path) -> Path:
        default = CacheOptions.bottleneck_dir
        if is_cache(folder) or folder == default.absolute():
            return folder
        # Not made there: who wrote run.json would choose where this user's files go.
        log.info(
            "%s: no cache of bottlenecks is there; using %s, unless another --bottleneck-dir is "
            "given",
            folder,
            default,
        )
        return default

    def _options(self, section: str, kind: type[_Options]) -> _Options:
        try:
            return recorded_options(kind, self._field(section))
        except ValueError as error:
            raise RunError(
                f"{self.folder / RUN_FILE}: {section!r} makes no sense ({error}); train again"
            ) from error

    def _field(self, name: str) -> Any:
        try:
            return self.record[name]
        except KeyError:
            raise RunError(f"{self.folder / RUN_FILE}: has no {name!r}; train again") from None


def text_of_path(path: Path) -> str:
    """Return a path as it stands in UTF-8; bytes of a name that are no text are escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def path_of_text(text: str) -> Path:
    """Return the path that `text_of_path` was given."""
    if is_url(text):
        return location(text)
    if os.name == "nt":  # where each name is text, and \ separates folders
        return Path(text)
    return Path(_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text))


def as_run(run: StrPath | Run, bottleneck_dir: StrPath | None = None) -> Run:
    """Return the run of a folder, or a run itself, with another cache if one is given."""
    if not isinstance(run, Run):
        return Run(run, bottleneck_dir)
    return run if bottleneck_dir is None else Run(run.folder, bottleneck_dir)


def read_record(path: StrPath) -> Mapping[str, Any]:
    """Return the content of a `run.json`, given the file or its folder.

    Raises:
        RunError: it is missing, damaged, or written by a newer fic.
    """
    path = Path(path)
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
        OutputError: it holds something else, alone or beside a run; a run replaces the folder. Or
            it cannot be written, or an earlier run cannot be kept beside it.
    """
    for place in (folder, previous_run(folder)):
        check_replaceable(place, mark=RUN_FILE, names=RUN_FILES)
        file = place / RUN_FILE
        if file.is_file() and not _is_record(file):
            raise OutputError(f"{file}: is not that of a run; give a new or empty folder")
    check_writable(folder)
    if (folder / RUN_FILE).is_file():
        check_writable(previous_run(folder))


def previous_run(folder: Path) -> Path:
    """Return where a run goes when another one takes its place."""
    folder = real_path(folder)
    return folder.with_name(f"{folder.name}.previous")


def _is_record(file: Path) -> bool:
    try:
        record = read_json(file, _MOST_BYTES)
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"format", "labels"} <= record.keys()


def _no_run(folder: Path, file: str) -> RunError:
    if not os.path.lexists(folder):
        return RunError(
            f"{folder}: no such folder, so no {file} there; give a folder that `fic train` wrote"
        )
    if (folder / MANIFEST_FILE).is_file() or folder.suffix == ".zip":
        return RunError(
            f"{folder}: is a bundle, not a run; call `fic-runtime predict {folder}` instead"
        )
    return RunError(f"{folder}: no {file} there; give a folder that `fic train` wrote")


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = read_json(path, _MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_run(path.parent, path.name) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: is not a JSON object; train again")
    return values


def _are_finite(figures: object) -> bool:
    if isinstance(figures, dict | list):
        return all(map(_are_finite, figures.values() if isinstance(figures, dict) else figures))
    return not isinstance(figures, float) or math.isfinite(figures)


def _are_of_a_class(figures: object) -> bool:
    return isinstance(figures, dict) and {"images", "precision", "recall"} <= figures.keys()


def _unreadable(path: Path, error: Exception) -> RunError:
    # What may not be read may well be whole.
    remedy = "check its permissions" if isinstance(error, PermissionError) else "train again"
    reason = getattr(error, "strerror", None) or one_line(error)
    return RunError(f"{path}: cannot be read ({reason}); {remedy}")


def _probability(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a probability")
    return number


def _file_name(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path holds a null byte")
    return text
