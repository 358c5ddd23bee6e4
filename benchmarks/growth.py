"""How time and memory of fic grow, from ten of something to a million.

    python benchmarks/growth.py [--only epoch csv] [--most 1000000] [--folder DIR]

One table: a line for each figure, a column for each power of ten that it is measured at. Each
measurement is a process of its own, whose peak of memory stands beside its first figure. What it
needs is made beforehand, in a temporary folder that is empty again afterwards (8 GB at most;
--folder chooses the disk).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import many_classes
import many_rows
import numpy as np
import small_runs
from measuring import wall_seconds

from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.data.csv_files import read_csv
from fic.data.file_memo import FileDigests
from fic.insight.neighbors import find_neighbors
from fic.options import CacheOptions
from fic.training.metrics import answers_of, figures_of
from fic_runtime.predictions import Prediction

FEATURES = 1280
MANY_CLASSES = 5000
OF_EACH_CLASS = 10
DIRECTIONS = 256  # of the rows that an audit compares
IN_A_FOLDER = 1000
LINKS = 50_000  # to one file; ext4 allows 65 000
SETTLED = 2.5  # seconds; what changed less than two ago is not remembered

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """Something that grows: what it is counted in, what it needs, and how it is measured.

    Attributes:
        counts: powers of ten of what is counted.
        prepare: makes what is needed in a folder.
        measure: returns the figures, named with their unit.
    """

    of: str
    counts: range
    prepare: Callable[[Path, int], Any]
    measure: Callable[[Path, int], Figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, step, count = options.child
        show(CASES[name], step, options.folder, int(count))
        return
    powers = [power for power in range(1, 7) if 10**power <= options.most]
    counts = [f"{10**power:,}".replace(",", " ") for power in powers]
    print("| " + " | ".join(["", "counted in", *counts]) + " |")
    print("|---|---|" + "---:|" * len(powers))
    for name in options.only or CASES:
        case = CASES[name]
        found = {p: measured(name, 10**p, options.folder) for p in powers if p in case.counts}
        for figure in dict.fromkeys(figure for figures in found.values() for figure in figures):
            cells = [found.get(power, {}).get(figure, "") for power in powers]
            print("| " + " | ".join([figure, case.of, *cells]) + " |", flush=True)


def measured(name: str, count: int, parent: Path | None) -> dict[str, str]:
    """Measure one case in processes of their own; return the figures as they are shown."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = [sys.executable, __file__, "--folder", folder, "--child", name]
        subprocess.run([*command, "prepare", str(count)], check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run(
            [*command, "measure", str(count)], check=True, capture_output=True, text=True
        )
    return {figure: str(shown) for figure, shown in json.loads(done.stdout).items()}


def show(case: Case, step: str, folder: Path, count: int) -> None:
    """Do one step of a case in this process, and print its figures."""
    if step == "prepare":
        case.prepare(folder, count)
        return
    figures = case.measure(folder, count)
    users = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    peak = max(resource.getrusage(who).ru_maxrss for who in users) / 1024
    shown = {
        name: f"{value:.3g}" if value < 100 else f"{value:.0f}" for name, value in figures.items()
    }
    print(json.dumps(shown | {f"{next(iter(shown)).split(',')[0]}: peak, MB": f"{peak:.0f}"}))


def nothing(folder: Path, count: int) -> None:
    """Need nothing beforehand."""


def epoch(folder: Path, rows: int) -> Figures:
    """Train a linear head: an epoch with the bottlenecks in memory, and one from a cold disk."""
    given = [f"--rows={rows}", f"--features={FEATURES}", "--cold", "--child", str(folder)]
    done = subprocess.run(
        [sys.executable, many_rows.__file__, *given], check=True, capture_output=True
    )
    found = json.loads(done.stdout)
    return {
        "an epoch of the head, s": found["warm epoch"],
        "the same from a cold disk, s": found["cold epoch"],
        "reading that disk in order, s": found["cold, read in order"],
    }


def evaluation(folder: Path, pictures: int) -> Figures:
    """Reduce the probabilities of many classes to figures, in blocks as they come from the head."""
    random = np.random.default_rng(0)
    block = random.random((512, MANY_CLASSES), np.float32)
    targets = random.integers(0, MANY_CLASSES, pictures)
    labels = [f"class {number:05}" for number in range(MANY_CLASSES)]
    blocks = (block[: pictures - start] for start in range(0, pictures, len(block)))
    return {
        f"figures of {MANY_CLASSES} classes, s": wall_seconds(
            lambda: figures_of(answers_of(blocks, targets), labels)
        )
    }


def classes(folder: Path, count: int) -> Figures:
    """Train, evaluate and export as whole commands."""
    commands = many_classes.commands(folder)
    found = {f"fic {name}, s": many_classes.process(words)[0] for name, words in commands.items()}
    return found | {"metrics.json, kB": (folder / "run" / "metrics.json").stat().st_size / 1e3}


def runs(folder: Path, count: int) -> Figures:
    """Make small runs on one cache, and open it once more."""
    seconds, opening, _ = small_runs.measure(count, 10)
    return {"small runs, s": seconds, "opening the cache after them, ms": opening}


def write_csv(folder: Path, rows: int) -> None:
    """Write a CSV file of pictures, many of which are links to one and the same file."""
    with (folder / "pictures.csv").open("w") as lines:
        lines.write("path,label\n")
        for number, path in enumerate(picture_paths(folder, rows)):
            if number % LINKS == 0:
                path.write_bytes(b"%d" % number)
                source = path
            else:
                path.hardlink_to(source)
            lines.write(f"{path.relative_to(folder)},class {path.parent.name}\n")


def csv(folder: Path, rows: int) -> Figures:
    """Read a CSV file."""
    return {"reading a CSV file, s": wall_seconds(lambda: read_csv(folder / "pictures.csv"))}


def write_pictures(folder: Path, count: int) -> None:
    """Make different pictures, a memo that knows them, and a cache with their bottlenecks."""
    _, jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    paths = list(picture_paths(folder, count))
    for number, path in enumerate(paths):
        path.write_bytes(jpeg.tobytes() + b"%d" % number)
    time.sleep(SETTLED)
    cache = CacheOptions(bottleneck_dir=folder / "bottlenecks")
    with BottleneckCache(cache.bottleneck_dir, small_runs.FINGERPRINT) as opened:
        with FileDigests(cache.memo) as memo:
            digests = memo.digests(paths).digests
        keys = make_keys((digest, 0) for digest in digests.values())
        with opened.writer() as writer:
            for start in range(0, count, 1024):
                some = keys[start : start + 1024]
                writer.add(some, np.ones((len(some), 1280), np.float32))


def disk(folder: Path, count: int) -> Figures:
    """Split pictures into folders of links, and prune their cache, both with a memo of them."""
    given = [str(folder / "data"), "--bottleneck-dir", str(folder / "bottlenecks")]
    split = ["split", *given, "--out", str(folder / "parts")]
    prune = ["cache", "prune", *given[1:], "--keep-data", given[0]]
    found = {"fic split": split, "the same again": split, "fic cache prune --keep-data": prune}
    return {f"{name}, s": many_classes.process(words)[0] for name, words in found.items()}


def picture_paths(folder: Path, count: int) -> Iterator[Path]:
    """Yield the paths of pictures in folders that are made, at least two."""
    in_a_folder = min(IN_A_FOLDER, count // 2)
    for number in range(count):
        place = folder / "data" / f"{number // in_a_folder:04}"
        if number % in_a_folder == 0:
            place.mkdir(parents=True)
        yield place / f"{number:07}.jpg"


def neighbors(folder: Path, count: int) -> Figures:
    """Find the neighbors of each picture, as an audit does."""
    rows = np.random.default_rng(0).standard_normal((count, DIRECTIONS), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {"neighbors of an audit, s": wall_seconds(lambda: find_neighbors(rows, 6))}


def top(folder: Path, labels: int) -> Figures:
    """Ask a prediction for its best label."""
    names = tuple(map(str, range(labels)))
    probabilities = np.random.default_rng(0).random(labels, np.float32)
    prediction = Prediction.from_probabilities(probabilities, names)
    seconds = min(wall_seconds(lambda: prediction.top(1)) for _ in range(100))
    return {"Prediction.top(1), ms": 1000 * seconds}


CASES = {
    "epoch": Case("rows", range(3, 7), lambda at, n: many_rows.fill(at, n, FEATURES), epoch),
    "classes": Case(
        "classes",
        range(1, 4),
        lambda at, n: many_classes.draw(at / "data", n, OF_EACH_CLASS),
        classes,
    ),
    "evaluation": Case("pictures", range(3, 6), nothing, evaluation),
    "runs": Case("runs", range(1, 4), nothing, runs),
    "csv": Case("rows", range(3, 7), write_csv, csv),
    "disk": Case("pictures", range(3, 6), write_pictures, disk),
    "neighbors": Case("pictures", range(3, 6), nothing, neighbors),
    "top": Case("labels", range(1, 6), nothing, top),
}

if __name__ == "__main__":
    main()
