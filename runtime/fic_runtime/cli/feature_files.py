"""Bottlenecks of many pictures in one file, for whoever computes with them."""

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..results import cannot_write, check_own_file, check_writable, whole_file
from .answers import table_cell

AddRow: TypeAlias = Callable[[Path, NDArray[np.float32]], object]


@contextmanager
def feature_file(out: Path, shape: tuple[int, ...]) -> Iterator[AddRow]:
    """Give a function that adds a picture and its bottleneck to a file that appears whole.

    An `.npz` holds the arrays `files`, text (n,), and `bottlenecks`, float32 (n, *shape); a `.csv`
    has a line for each picture: `file`, then the features under their numbers. Rows go to the disk
    as they come, and only the names of the pictures stay in memory.

    Args:
        out: the file; an earlier one is replaced when the block ends well.
        shape: the shape of one bottleneck.

    Raises:
        OutputError: the suffix is another one, the bottlenecks are maps and do not fit a table, or
            the file cannot be written.
    """
    suffix = out.suffix.lower()
    check_feature_file(out)
    if suffix == ".csv" and len(shape) != 1:
        raise OutputError(f"{out}: feature maps do not fit a table; give a name ending in .npz")
    try:
        with whole_file(out) as part, _WRITERS[suffix](part, shape) as add:
            yield add
    except OSError as error:
        raise cannot_write(out, error) from error


def check_feature_file(out: Path) -> None:
    """Make sure that a file of bottlenecks may be written at `out`.

    Raises:
        OutputError: the suffix is another one, a file is there that is not of this kind, or it
            cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix not in _WRITERS:
        raise OutputError(f"{out}: the name must end in {' or '.join(_WRITERS)}")
    check_own_file(out, _IS_OWN[suffix], kind="a file of bottlenecks")
    check_writable(out)


def _is_table(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        head = next(csv.reader(file))
    return len(head) > 1 and head == ["file", *map(str, range(len(head) - 1))]


def _holds_arrays(path: Path) -> bool:
    with ZipFile(path) as archive:
        return archive.namelist() == ["files.npy", "bottlenecks.npy"]


@contextmanager
def _table(part: Path, shape: tuple[int, ...]) -> Iterator[AddRow]:
    # The bytes of a name that are no text stand as escapes.
    with part.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", *range(shape[0])])
        yield lambda path, bottleneck: table.writerow([table_cell(str(path)), *bottleneck.tolist()])


@contextmanager
def _arrays(part: Path, shape: tuple[int, ...]) -> Iterator[AddRow]:
    """Write what `np.savez` would, whose header says how many rows follow: they wait in a file."""
    names: list[str] = []
    with tempfile.TemporaryFile(dir=part.parent) as rows:

        def add(path: Path, bottleneck: NDArray[np.float32]) -> None:
            rows.write(bottleneck.astype("<f4", copy=False).tobytes())
            names.append(str(path))

        yield add
        rows.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), *shape)}
        with ZipFile(part, "w") as archive:
            with archive.open("files.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(names, np.str_))
            with archive.open("bottlenecks.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(rows, member, 1 << 20)


_WRITERS = {".npz": _arrays, ".csv": _table}
_IS_OWN = {".npz": _holds_arrays, ".csv": _is_table}
