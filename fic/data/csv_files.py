"""Data sets that are listed in a CSV file instead of being folders."""

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fic_runtime.bundle.labels import is_label

from ..errors import DataError
from .dataset import Dataset, Split
from .remote import RemotePath, is_url, location

_COLUMNS = ("path", "label", "split")


def read_csv(file: str | Path, *, labels: Sequence[str] | None = None) -> Dataset | Split:
    """List the pictures named in a CSV file with the columns `path,label` or `path,label,split`.

    Paths are relative to the file's folder, or URLs; `split` is `train` or `val` on every line.

    Args:
        file: the CSV file, local or a URL, UTF-8, first line the names of the columns.
        labels: the classes of the training set, as for `read_folder`.

    Returns:
        A split where the file has that column, else the data set.

    Raises:
        DataError: the file cannot be read, or a line of it cannot be used.
    """
    file = location(file)
    rows = _csv_rows(file)
    found = {row.label for row in rows}
    known = tuple(sorted(found) if labels is None else labels)
    if unknown := found - set(known):
        row = next(row for row in rows if row.label in unknown)
        raise DataError(
            f"{file}, line {row.line}: the training set has no class {row.label!r}; "
            f"correct the label or add the class to the training set"
        )
    if len(known) < 2:
        raise DataError(f"{file}: needs at least two classes, found {len(known)}")
    index_of = {name: index for index, name in enumerate(known)}
    dataset = Dataset(
        tuple(row.path for row in rows), tuple(index_of[row.label] for row in rows), known
    )
    if not rows[0].split:
        return dataset
    train = dataset.subset([index for index, row in enumerate(rows) if row.split == "train"])
    val = dataset.subset([index for index, row in enumerate(rows) if row.split == "val"])
    if not len(val):
        raise DataError(f"{file}: no line says val in the column split; mark some pictures so")
    for name, count in zip(known, train.counts, strict=True):
        if not count and labels is None:
            raise DataError(
                f"{file}: class {name!r} has no picture marked train; mark at least one so"
            )
    return Split(train, val)


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: str
    split: str


def _csv_rows(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    first_lines: dict[Path, int] = {}
    try:
        # utf-8-sig: spreadsheet programs begin the file with a byte order mark.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = [cell.strip().lower() for cell in next(reader, [])]
            if not {"path", "label"} <= set(columns) <= set(_COLUMNS) or len(columns) > 3:
                raise DataError(
                    f"{file}, line 1: the columns are {','.join(columns) or 'missing'}; "
                    f"name them path,label or path,label,split"
                )
            for cells in reader:
                if not cells:
                    continue
                row = _csv_row(file, reader.line_num, columns, cells)
                if row.path in first_lines:
                    raise DataError(
                        f"{file}, line {row.line}: {row.path} is on line {first_lines[row.path]} "
                        f"too; name each picture once"
                    )
                first_lines[row.path] = row.line
                rows.append(row)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}; correct the quotes") from error
    if not rows:
        raise DataError(f"{file}: names no pictures; add lines such as photos/1.jpg,roses")
    return rows


def _csv_row(file: Path, line: int, columns: list[str], cells: list[str]) -> _Row:
    if len(cells) != len(columns):
        raise DataError(
            f"{file}, line {line}: {len(cells)} cells where the columns are "
            f"{','.join(columns)}; put a cell that holds a comma in double quotes"
        )
    named = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    path = RemotePath(named["path"]) if is_url(named["path"]) else file.parent / named["path"]
    label = unicodedata.normalize("NFC", named["label"])
    split = named.get("split", "")
    if not named["path"] or not label:
        raise DataError(f"{file}, line {line}: has no {'label' if not label else 'path'}")
    if "split" in named and split not in {"train", "val"}:
        raise DataError(f"{file}, line {line}: split is {split!r}; write train or val")
    if not is_label(label):
        raise DataError(
            f"{file}, line {line}: the label {label!a} holds a line break or a control character; "
            "correct it"
        )
    # To ask a server about each line takes as long as to read the pictures: they are read instead.
    if not isinstance(path, RemotePath) and not path.is_file():
        raise DataError(f"{file}, line {line}: no such file: {path}")
    return _Row(line, path, label, split)
