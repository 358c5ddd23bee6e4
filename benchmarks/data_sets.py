"""Time what fic does to the files of a data set before any picture is decoded, and how it grows.

    python benchmarks/data_sets.py [--pictures 1000 10000 100000] [--rows 1000 10000 100000 1000000]

Lists folders and CSV files, reads digests, splits by links; the files hold 1 kB each, so these are
figures of opening files and not of reading photos. Run it on two versions to compare them.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fic.bottlenecks.cached import kept_digests
from fic.data import Dataset
from fic.data.csv_files import read_csv
from fic.data.folders import read_folder
from fic.data.source import split_pictures
from fic.data.split_folders import write_split
from fic.progress import Silence

_CLASSES = 10
_SETTLED = 2.5  # seconds; what changed less than two ago is not remembered


def make_pictures(folder: Path, count: int) -> None:
    for number in range(count):
        own = folder / f"class-{number % _CLASSES}"
        own.mkdir(parents=True, exist_ok=True)
        (own / f"picture-{number:08}.jpg").write_bytes(b"%1024d" % number)
    time.sleep(_SETTLED)


def report(what: str, count: int, action: Callable[[], object]) -> None:
    started = time.perf_counter()
    action()
    seconds = time.perf_counter() - started
    print(
        f"{count:>8} {what:<42} {seconds:8.2f} s {1e6 * seconds / count:8.1f} µs each", flush=True
    )


def measure_folder(work: Path, count: int) -> None:
    folder, memo = work / "pictures", work / "files.sqlite"
    make_pictures(folder, count)
    report("pictures listed", count, lambda: read_folder(folder))

    def split(memo: Path | None) -> None:
        parts = split_pictures(folder, fraction=0.2, seed=0, progress=Silence(), memo=memo)
        write_split(parts, work / "split")

    report("pictures split, all read", count, lambda: split(memo))
    report("pictures split again, by the memo", count, lambda: split(memo))
    shutil.rmtree(work / "split")
    report("pictures split elsewhere, by the memo", count, lambda: split(memo))
    report("pictures kept by prune, all read", count, lambda: kept_digests(folder, Silence()))
    report(
        "pictures kept by prune, by the memo",
        count,
        lambda: kept_digests(folder, Silence(), memo=memo),
    )
    shutil.rmtree(folder)
    shutil.rmtree(work / "split")
    memo.unlink()


def measure_csv(work: Path, count: int) -> None:
    # Links to one file: a million files would measure the disk.
    (work / "one.jpg").write_bytes(b"")
    folders = max(count // 10_000, 1)
    for number in range(folders):
        (work / f"rows/{number}").mkdir(parents=True)
    with (work / "list.csv").open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        for number in range(count):
            name = f"rows/{number % folders}/{number:08}.jpg"
            try:
                os.link(work / f"one-{number // 60_000}.jpg", work / name)
            except FileNotFoundError:  # a file has no more than some 65 000 names
                (work / f"one-{number // 60_000}.jpg").write_bytes(b"")
                os.link(work / f"one-{number // 60_000}.jpg", work / name)
            file.write(f"{name},class-{number % _CLASSES}\n")

    def read() -> None:
        data = read_csv(work / "list.csv")
        assert isinstance(data, Dataset)
        assert len(data) == count

    report("rows of a CSV file read", count, read)
    shutil.rmtree(work / "rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for count in options.pictures:
            measure_folder(Path(directory), count)
        for count in options.rows:
            measure_csv(Path(directory), count)


if __name__ == "__main__":
    main()
