"""Data sets that are listed in a CSV file instead of being folders."""

import csv
import gc
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader, StringIO, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TextIO

from fic_runtime.bundle.labels import is_label
from fic_runtime.images.picture_files import FileUse, LeftOut
from fic_runtime.reading import open_regular

from ..errors import DataError
from ..options import SkipOrFail
from .dataset import Dataset, Skipped, Split
from .remote import RemotePath, is_url, location
from .sides import Side, side_of

_MOST_LINE = 1 << 20  # characters: what has no end of a line is not read whole
_SEPARATORS = ",;\t|"  # the first is what CSV is called after; spreadsheets have their own


def read_csv(
    file: str | Path, *, labels: Sequence[str] | None = None, on_error: SkipOrFail = "fail"
) -> Dataset | Split:
    """List the pictures named in a CSV file with the columns `path,label` or `path,label,split`.

    Paths are relative to the file's folder, or URLs. `split` names the side of each picture, in any
    of the usual spellings (`fic.data.sides`); where some are for validation, those for a test are
    left out. Other columns are ignored, and commas may be semicolons, tabs or bars.

    Args:
        file: the CSV file, local or a URL, UTF-8, first line the names of the columns.
        labels: the classes of the training set, as for `read_folder`.
        on_error: whether lines that cannot be used are skipped, or end the reading.

    Returns:
        A split where the file has that column, else the data set.

    Raises:
        DataError: the file cannot be read, or a line of it, or every line, cannot be used.
    """
    file = location(file)
    rows = _read_rows(file)
    if rows.wrong and (on_error == "fail" or not rows.paths):
        more = f" (and {len(rows.wrong) - 1} more such lines)" if len(rows.wrong) > 1 else ""
        raise DataError(f"{rows.wrong[0].reason}{more}")
    if not rows.paths:
        raise DataError(f"{file}: names no pictures; add lines such as photos/1.jpg,roses")
    tested = _not_used(file, rows)
    known = _known_labels(file, rows, labels)
    index_of = {name: index for index, name in enumerate(known)}
    dataset = Dataset(
        paths=tuple(rows.paths),
        targets=tuple(index_of.get(label, -1) for label in rows.labels),
        labels=known,
        files=FileUse(len(rows.paths) - len(tested), left_out=tested),
        skipped=tuple(rows.wrong),
    )
    if not rows.sides:
        return dataset
    return _split(file, dataset, rows.sides, every_class=labels is None)


@dataclass
class _Rows:
    """The lines of a file that can be used, column by column, and why the others cannot.

    `sides` is empty where the file has no such column.
    """

    lines: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    wrong: list[Skipped] = field(default_factory=list)


class _Unusable(Exception):
    """Why a line cannot be used: the rest of a sentence that begins with file and line."""


def _read_rows(file: Path) -> _Rows:
    try:
        with (
            open_regular(file) as raw,
            # utf-8-sig: spreadsheet programs begin the file with a byte order mark.
            TextIOWrapper(BufferedReader(raw), "utf-8-sig", newline="") as stream,
            _no_collection(),
        ):
            # Some files of /proc say that they are empty and never end.
            return _rows(file, stream if os.fstat(raw.fileno()).st_size else StringIO())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text; save it as UTF-8") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage: a million rows make none, and a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _rows(file: Path, stream: TextIO) -> _Rows:
    first = stream.readline(_MOST_LINE)
    # The line with which spreadsheets tell each other the separator.
    told = first[:4].lower() == "sep=" and first[4:5]
    head = stream.readline(_MOST_LINE) if told else first
    lines = iter(partial(stream.readline, _MOST_LINE), "")
    separator = told or _separator(head)
    reader = csv.reader(
        chain(["\n", head] if told else [head], lines), delimiter=separator, strict=True
    )
    try:
        found = next((cells for cells in reader if cells), [])
        return _used_rows(file, reader, _columns(file, found, reader.line_num))
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}; correct the quotes") from error


def _separator(head: str) -> str:
    """Return what stands between the names of the columns."""
    for separator in _SEPARATORS:
        if {"path", "label"} <= {name.strip(' "\r\n').lower() for name in head.split(separator)}:
            return separator
    return _SEPARATORS[0]


@dataclass(frozen=True)
class _Columns:
    names: list[str]
    path: int
    label: int
    split: int | None


def _columns(file: Path, found: list[str], line: int) -> _Columns:
    names = [cell.strip().lower() for cell in found]
    if any(names.count(needed) != 1 for needed in ("path", "label")) or names.count("split") > 1:
        raise DataError(
            f"{file}, line {max(line, 1)}: the columns are {','.join(names) or 'missing'}; "
            f"name them path,label or path,label,split"
        )
    split = names.index("split") if "split" in names else None
    return _Columns(names, names.index("path"), names.index("label"), split)


def _used_rows(file: Path, reader: "Iterator[list[str]]", columns: _Columns) -> _Rows:
    rows = _Rows()
    first_lines: dict[str, int] = {}
    label_of: dict[str, str] = {}
    side_of_cell: dict[str, Side] = {}
    folders: dict[str, Path] = {}
    root = "" if file.parent == Path() else os.path.join(file.parent, "")  # noqa: PTH118  # as text
    is_remote = isinstance(file, RemotePath)
    path_at, label_at, split_at = columns.path, columns.label, columns.split
    width = len(columns.names)
    for cells in reader:
        if not any(cells):
            continue
        line: int = reader.line_num  # type: ignore[attr-defined] # of csv.reader, which has no type
        try:
            if len(cells) != width:
                _check_cells(cells, columns)
            name, text = cells[path_at].strip(), cells[label_at]
            if text not in label_of:
                label_of[text] = _label(text)
            if split_at is not None and cells[split_at] not in side_of_cell:
                side_of_cell[cells[split_at]] = _side(cells[split_at])
            far = _remote(file, name) if is_remote or "://" in name else None
            path = _existing(root, name) if far is None else far.url
            key = str(Path(path)) if far is None and ("./" in path or "//" in path) else path
            if key in first_lines:
                shown = far or path
                raise _Unusable(
                    f"{shown} is on line {first_lines[key]} too; name each picture once"
                )
        except _Unusable as reason:
            named = cells[path_at].strip() if len(cells) > path_at else ""
            place = file.parent / named if named else Path(f"{file}:{line}")
            rows.wrong.append(Skipped(place, f"{file}, line {line}: {reason}"))
            continue
        first_lines[key] = line
        # A path from its folder takes half the time of one from text.
        folder, slash, base = path.rpartition("/")
        if far is None and folder not in folders:
            folders[folder] = Path(folder + slash)
        rows.lines.append(line)
        rows.paths.append(folders[folder] / base if far is None else far)
        rows.labels.append(label_of[text])
        if split_at is not None:
            rows.sides.append(side_of_cell[cells[split_at]])
    return rows


def _check_cells(cells: Sequence[str], columns: _Columns) -> None:
    """Refuse a line with more or fewer cells than there are columns, if that is no mere habit."""
    names = columns.names
    # Empty cells at its end: some programs leave them out or pad.
    needed = max(columns.path, columns.label, columns.split or 0)
    if len(cells) <= needed or any(cells[len(names) :]):
        raise _Unusable(
            f"{len(cells)} cells where the columns are {','.join(names)}; put a cell that holds "
            "the separator in double quotes"
        )


def _label(text: str) -> str:
    label = unicodedata.normalize("NFC", text.strip())
    if not label:
        raise _Unusable("has no label")
    if not is_label(label):
        raise _Unusable(
            f"the label {label!a} holds a line break or a control character; correct it"
        )
    return label


def _side(text: str) -> Side:
    side = side_of(text.strip())
    if side is None:
        raise _Unusable(f"split is {text.strip()!r}; write train or val")
    return side


def _remote(file: Path, name: str) -> RemotePath | None:
    """Return the URL of a picture; whether it is there, reading shows.

    To ask a server about each line takes as long as to read the pictures.
    """
    if is_url(name):
        return RemotePath(name)
    if not name:
        raise _Unusable("has no path")
    return file.parent / name if isinstance(file, RemotePath) else None


def _existing(root: str, name: str) -> str:
    """Return the path of a picture; backslashes are Windows's where no such file is here."""
    if not name:
        raise _Unusable("has no path")
    path = name if os.path.isabs(name) else root + name  # noqa: PTH117  # a tenth of Path's
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # half the time of Path.stat
    except FileNotFoundError:
        if "\\" in name:
            return _existing(root, name.replace("\\", "/"))
        raise _Unusable(f"no such file: {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or error
        raise _Unusable(f"cannot be read ({reason}): {path}") from error
    if not stat.S_ISREG(mode):
        what = "a folder and not a file" if stat.S_ISDIR(mode) else "no plain file"
        raise _Unusable(f"is {what}: {path}")
    return path


def _not_used(file: Path, rows: _Rows) -> tuple[LeftOut, ...]:
    """Return the pictures that are for a test: neither trained nor validated on."""
    tested = [index for index, side in enumerate(rows.sides) if side == "test"]
    if tested and "val" not in rows.sides:
        raise DataError(
            f"{file}, line {rows.lines[tested[0]]}: split is 'test'; write train or val, since "
            "no line says val"
        )
    return tuple(LeftOut(rows.paths[index], "marked test") for index in tested)


def _known_labels(file: Path, rows: _Rows, labels: Sequence[str] | None) -> tuple[str, ...]:
    used = [side != "test" for side in rows.sides] or [True] * len(rows.labels)
    found = {label for label, is_used in zip(rows.labels, used, strict=True) if is_used}
    known = tuple(sorted(found) if labels is None else labels)
    if unknown := found - set(known):
        index = next(index for index, label in enumerate(rows.labels) if label in unknown)
        raise DataError(
            f"{file}, line {rows.lines[index]}: the training set has no class "
            f"{rows.labels[index]!r}; correct the label or add the class to the training set"
        )
    if len(known) < 2:
        raise DataError(f"{file}: needs at least two classes, found {len(known)}")
    return known


def _split(file: Path, dataset: Dataset, sides: Sequence[Side], *, every_class: bool) -> Split:
    train = dataset.subset([index for index, side in enumerate(sides) if side == "train"])
    val = dataset.subset([index for index, side in enumerate(sides) if side == "val"])
    if not len(val):
        raise DataError(f"{file}: no line says val in the column split; mark some pictures so")
    for name, count in zip(dataset.labels, train.counts, strict=True):
        if not count and every_class:
            raise DataError(
                f"{file}: class {name!r} has no picture marked train; mark at least one so"
            )
    return Split(train, val, dataset.files, dataset.skipped)
