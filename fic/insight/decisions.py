"""The CSV of suspects in which a person decides, and the data set that follows from the decisions.

The file lists every picture, the most suspect first. The column `decision` is empty at first:

    (empty), keep     the picture stays as it is
    reject            the picture is left out
    relabel           the picture gets the label in the column `suggested`, which may be edited
    NAME              the picture gets this label, one of those in the file
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import TextIO

from fic_export.errors import OutputError
from fic_runtime.bundle.labels import is_label
from fic_runtime.reading import open_regular
from fic_runtime.results import cannot_write, whole_file

from ..data.remote import RemotePath, location
from ..errors import DataError
from ..options import StrPath
from ..runs.csv_cells import escaped, unescaped
from .findings import Audit

_COLUMNS = ("path", "label", "suggested", "score", "problem", "split", "decision")
_MOST_LINE = 1 << 20  # characters: what has no end of a line is not read whole
_NEEDED = ("path", "label", "decision")
# A name of a file that is not UTF-8 goes through as the bytes that it is.
ERRORS = "surrogateescape"
_KEPT = frozenset({"", "keep"})
_REJECTED = frozenset({"reject", "rejected", "remove", "drop", "delete"})
_RELABELED = "relabel"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What the decisions did: pictures kept as they were, left out, and given another label."""

    kept: int
    rejected: int
    relabeled: int


def decisions_csv(audit: Audit, *, split: bool) -> str:
    """Return the file to decide in.

    Args:
        audit: what was found.
        split: whether the data set is split already, so that the cleaned one has to be.
    """
    problems = _problems(audit)
    columns = [column for column in _COLUMNS if split or column != "split"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    for suspect in audit.suspects:
        said = problems.get(suspect.path, [])
        table.writerow(
            {
                "path": escaped(str(suspect.path)),
                "label": escaped(suspect.label),
                "suggested": escaped(suspect.suggested),
                "score": f"{suspect.score:.4f}",
                "problem": escaped(
                    "; ".join([*(["label"] if suspect.likely_wrong else []), *said])
                ),
                "split": suspect.side,
                "decision": "",
            }
        )
    return text.getvalue()


def _problems(audit: Audit) -> Mapping[Path, list[str]]:
    """Return what else was found out about each picture."""
    found: dict[Path, list[str]] = {}
    for group in audit.duplicates:
        for path in group.paths:
            other = next(each for each in group.paths if each != path)
            leak = ", across the split" if group.leaks else ""
            found.setdefault(path, []).append(f"{group.kind} as {other}{leak}")
    for outlier in audit.outliers:
        found.setdefault(outlier.path, []).append("like no other picture")
    for each in audit.files:
        found.setdefault(each.path, []).append(each.problem)
    return found


def holds_decisions(file: Path) -> bool:
    """Return whether somebody has decided something in a file of suspects."""
    try:
        with _opened(file) as stream:
            table = _table(stream)
            if "decision" not in (table.fieldnames or []):
                return True  # edited into something else: not ours to replace
            return any((row["decision"] or "").strip() for row in table)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, csv.Error):
        return True


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    # utf-8-sig: spreadsheet programs begin the file with a byte order mark.
    with (
        open_regular(file) as raw,
        TextIOWrapper(BufferedReader(raw), "utf-8-sig", ERRORS, "") as stream,
    ):
        yield stream


def apply_decisions(decisions: StrPath, out: StrPath) -> Applied:
    """Write the CSV file of a data set without what was rejected and with the new labels.

    No picture is moved or deleted. Paths in the decisions are relative to the working folder, as
    the audit had them; in `out` they are absolute.

    Args:
        decisions: `suspects.csv` of an audit, with decisions in it.
        out: the file of the cleaned data set, which is new.

    Raises:
        DataError: the decisions cannot be read or make no sense.
        OutputError: `out` exists, or cannot be written.
    """
    decisions, out = Path(decisions), Path(out)
    if out.exists():
        raise OutputError(f"{out}: exists already; give another name")
    rows = _read(decisions)
    known = {row.label for row in rows}
    kept: list[tuple[str, str, str]] = []
    applied = {"kept": 0, "rejected": 0, "relabeled": 0}
    for row in rows:
        label = _decided(decisions, row, known)
        if label is None:
            applied["rejected"] += 1
            continue
        applied["kept" if label == row.label else "relabeled"] += 1
        kept.append((str(row.path.absolute()), label, row.split))
    left = {label for _, label, _ in kept}
    if len(left) < 2:
        raise DataError(
            f"{decisions}: leaves {len(left)} class{'' if len(left) == 1 else 'es'}, and a data "
            "set needs two; reject fewer pictures"
        )
    _write(out, sorted(kept), split=any(row.split for row in rows))
    return Applied(**applied)


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: str
    suggested: str
    split: str
    decision: str


def _read(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[Path, int] = {}
    table: csv.DictReader[str] | None = None
    try:
        with _opened(file) as stream:
            table = _table(stream)
            _check_columns(file, table.fieldnames or [])
            for cells in table:
                row = _row(file, table.line_num, cells)
                if row.path in lines:
                    raise DataError(
                        f"{file}, line {row.line}: {row.path} is on line {lines[row.path]} too; "
                        "decide on each picture once"
                    )
                lines[row.path] = row.line
                rows.append(row)
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read: {error.strerror}; give a file that `fic audit` wrote"
        ) from error
    except csv.Error as error:
        line = 1 if table is None else table.line_num
        raise DataError(f"{file}, line {line}: {error}; correct the quotes") from error
    if not rows:
        raise DataError(f"{file}: names no pictures; give a file that `fic audit` wrote")
    return rows


def _table(stream: TextIO) -> "csv.DictReader[str]":
    """Return the rows of a file, however a spreadsheet program has saved it."""
    first = stream.readline(_MOST_LINE)
    stream.seek(0)
    lines = iter(partial(stream.readline, _MOST_LINE), "")
    # Those of countries whose decimal mark is a comma write semicolons, some tabs.
    table = csv.DictReader(lines, strict=True, delimiter=max(",;\t", key=first.count))
    table.fieldnames = [name.strip().lower() for name in table.fieldnames or []]
    return table


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    if missing := [name for name in _NEEDED if name not in columns]:
        raise DataError(
            f"{file}, line 1: has no column {missing[0]}; give a file that `fic audit` wrote, with "
            f"the columns {','.join(_NEEDED)}"
        )
    if twice := [name for name in _COLUMNS if columns.count(name) > 1]:
        raise DataError(f"{file}, line 1: has the column {twice[0]} twice; remove one")


def _row(file: Path, line: int, cells: Mapping[str | None, object]) -> _Row:
    if None in cells or None in cells.values():
        raise DataError(
            f"{file}, line {line}: has another number of cells than line 1; put a cell that holds "
            "a comma in double quotes"
        )
    named = {name: unescaped(str(cell).strip()) for name, cell in cells.items()}
    split = named.get("split", "").lower()
    if not named["path"]:
        raise DataError(f"{file}, line {line}: has no path; remove the line")
    if "split" in named and split not in {"train", "val"}:
        raise DataError(f"{file}, line {line}: split is {split!r}; write train or val")
    label = _label(file, line, named["label"])
    path = location(named["path"])
    if isinstance(path, RemotePath):
        # Whether each is there, the training finds out. A URL was written without its credentials.
        if "***" in named["path"]:
            raise DataError(
                f"{file}, line {line}: {path} lacks its credentials, which fic writes into no "
                "file; audit pictures whose URLs hold none"
            )
    elif not os.path.isfile(path):  # noqa: PTH113 # no name that cannot be is an error
        raise DataError(
            f"{file}, line {line}: no such file: {path}; run the command in the folder where the "
            "audit ran"
        )
    return _Row(line, path, label, named.get("suggested", ""), split, named["decision"])


def _decided(file: Path, row: _Row, known: set[str]) -> str | None:
    """Return the label that a picture has from now on, None for one that is left out."""
    decision = row.decision.lower()
    if row.decision in known and decision in _KEPT | _REJECTED:
        free = min(_REJECTED - known, default="Reject")
        raise DataError(
            f"{file}, line {row.line}: {row.decision!r} is a class here and a decision as well; "
            "write relabel, with the class in the column suggested, or, for the decision, "
            f"{'nothing' if decision in _KEPT else free}"
        )
    if decision in _KEPT:
        return row.label
    if decision in _REJECTED:
        return None
    if decision == _RELABELED:
        return _label(file, row.line, row.suggested)
    name = unicodedata.normalize("NFC", row.decision)
    if name in known:
        return name
    raise DataError(
        f"{file}, line {row.line}: the decision {row.decision!r} makes no sense; write keep, "
        "reject, relabel, or the name of a class"
    )


def _label(file: Path, line: int, text: str) -> str:
    label = unicodedata.normalize("NFC", text)
    if not is_label(label):
        raise DataError(f"{file}, line {line}: {text!a} cannot be a label; write one line of text")
    return label


def _write(out: Path, rows: Sequence[tuple[str, str, str]], *, split: bool) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "split"][: 3 if split else 2])
    table.writerows(row[: 3 if split else 2] for row in rows)
    try:
        with whole_file(out) as part:
            part.write_text(text.getvalue(), encoding="utf-8", errors=ERRORS, newline="")
    except OSError as error:
        raise cannot_write(out, error) from error
