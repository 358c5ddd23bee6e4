"""Training of a linear head on many bottlenecks: how an epoch grows, warm and from a cold disk.

    python benchmarks/many_rows.py [--rows 1000 10000 100000 1000000] [--cold] [--blocks]

Generates a cache in a temporary folder (5 GB for a million rows; --folder chooses the disk). For
each number of rows a process of its own trains epochs and says how long one takes and its peak
memory; `--cold` drops the files from the page cache before the last one and times a sequential
read of the same files, dropped as well. `--blocks` shuffles as where the bottlenecks are larger
than half of the memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fic.bases import find_base
from fic.bottlenecks import cached
from fic.bottlenecks.cached import Bottlenecks
from fic.cache import BottleneckCache
from fic.data import Dataset
from fic.fingerprint import Fingerprint
from fic.heads.building import Statistics, parse_head
from fic.heads.dense import build_dense
from fic.options import TrainingOptions
from fic.training.dense_head import DenseLearner

SHARD = 4096  # rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--features", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options)))
        return
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            fill(Path(folder), rows, options.features)
            done = subprocess.run(child(options, folder, rows), check=True, capture_output=True)
        print(rows, json.loads(done.stdout), flush=True)


def child(options: argparse.Namespace, folder: str, rows: int) -> list[str]:
    """Return the command that measures so many rows in a process of its own."""
    numbers = {name: getattr(options, name) for name in ("features", "classes", "epochs")}
    flags = [f"--{name}" for name in ("cold", "blocks") if getattr(options, name)]
    given = [f"--{name}={value}" for name, value in (numbers | {"rows": rows}).items()]
    return [sys.executable, __file__, *given, *flags, "--child", folder]


def fingerprint_of(features: int) -> Fingerprint:
    """Return that of made-up bottlenecks."""
    return Fingerprint(
        base="made_up",
        weights="0" * 32,
        tensor="output",
        pooling="avg",
        preprocessing=find_base("mobilenet").preprocessing(),
        dtype="float32",
        shape=(features,),
    )


def fill(folder: Path, rows: int, features: int) -> None:
    """Write a cache whose bottlenecks are noise."""
    random = np.random.default_rng(0)
    with BottleneckCache(folder, fingerprint_of(features)) as cache:
        for start in range(0, rows, SHARD):
            keys = all_keys(rows)[start : start + SHARD]
            with cache.writer() as writer:
                writer.add(keys, random.random((len(keys), features), np.float32))


def all_keys(rows: int) -> Any:
    """Return made-up keys."""
    keys = np.zeros((rows, 20), np.uint8)
    keys[:, :8] = np.arange(1, rows + 1, dtype=np.uint64)[:, None].view(np.uint8)
    return keys.view("S20").reshape(-1)


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Train in this process and return seconds an epoch and gigabytes."""
    (count,) = options.rows
    if options.blocks:
        cached._memory_bytes = lambda: 0
    with BottleneckCache(options.child, fingerprint_of(options.features)) as cache:
        rows = cache.find(all_keys(count))
        targets = np.arange(count) * options.classes // count  # sorted by class, as folders are
        labels = tuple(map(str, range(options.classes)))
        dataset = Dataset(tuple([Path("made-up.jpg")]) * count, tuple(targets.tolist()), labels)
        train = Bottlenecks(cache, dataset, rows[:, None])
        flat = Statistics(mean=np.full(options.features, 0.5), variance=np.ones(options.features))
        head = build_dense(parse_head("linear"), train.shape, options.classes, flat, seed=0)
        learner = DenseLearner(head, train, train, TrainingOptions())
        found: dict[str, float] = {}
        for number in range(options.epochs):
            cold = options.cold and number == options.epochs - 1
            if cold:
                drop(options.child)
            started = time.perf_counter()
            learner.train()
            found["cold epoch" if cold else "warm epoch"] = time.perf_counter() - started
        if options.cold:
            drop(options.child)
            started = time.perf_counter()
            for file in sorted(options.child.rglob("shard-*.h5")):
                with file.open("rb", buffering=0) as stream:
                    while stream.read(1 << 20):
                        pass
            found["cold, read in order"] = time.perf_counter() - started
    found["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {name: round(value, 2) for name, value in found.items()}


def drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for file in folder.rglob("shard-*.h5"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
