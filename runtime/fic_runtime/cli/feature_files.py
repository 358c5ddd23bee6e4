"""Bottlenecks of many pictures in one file, for whoever computes with them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import OutputError
from ..results import cannot_write, whole_file

SUFFIXES = (".npz", ".csv")


def write_features(out: Path, files: Sequence[Path], bottlenecks: np.ndarray[Any, Any]) -> None:
    """Write the bottlenecks of pictures, float32 (n, *bottleneck), to a file that appears whole.

    An `.npz` holds the arrays `files`, text (n,), and `bottlenecks`; a `.csv` has a line for each
    picture: `file`, then the features under their numbers.

    Raises:
        OutputError: the suffix is another one, the bottlenecks are maps and do not fit a table, or
            the file cannot be written.
    """
    check_feature_file(out, bottlenecks.ndim - 1)
    try:
        with whole_file(out) as part:
            if out.suffix.lower() == ".npz":
                names = np.array([str(path) for path in files], dtype=np.str_)
                with part.open("wb") as file:
                    np.savez(file, files=names, bottlenecks=bottlenecks)
            else:
                with part.open("w", encoding="utf-8", newline="") as table:
                    _write_table(table, files, bottlenecks)
    except OSError as error:
        raise cannot_write(out, error) from error


def check_feature_file(out: Path, dimensions: int) -> None:
    """Make sure that bottlenecks of so many dimensions fit the kind of file.

    Raises:
        OutputError: they do not, or the suffix is another one.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{out}: the name must end in {' or '.join(SUFFIXES)}")
    if out.suffix.lower() == ".csv" and dimensions != 1:
        raise OutputError(f"{out}: feature maps do not fit a table; give a name ending in .npz")


def _write_table(table: TextIO, files: Sequence[Path], bottlenecks: np.ndarray[Any, Any]) -> None:
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", *range(bottlenecks.shape[1])])
    for path, row in zip(files, bottlenecks, strict=True):
        writer.writerow([str(path), *row.tolist()])
