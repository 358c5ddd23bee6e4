"""Many small runs on one cache, with and without the merging of small shards, in alternation.

    python benchmarks/small_runs.py [--runs 1000] [--rows 10]

Each run opens the cache, looks for its bottlenecks, adds those that are new, and closes it, as
training on a few more pictures does. Printed for 10, 100, 1000, … runs: seconds in all, and how
long the next one takes to open.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fic.cache import BottleneckCache, compaction
from fic.cache.keys import make_keys
from fic.digests import digest_bytes
from fic.fingerprint import Fingerprint
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

FINGERPRINT = Fingerprint(
    base="small",
    weights="0" * 32,
    tensor="output",
    pooling="avg",
    preprocessing=Preprocessing(geometry=Geometry(height=8, width=8), pixels=Pixels()),
    dtype="float32",
    shape=(1280,),
)
NEVER = 1 << 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10)
    options = parser.parse_args()
    many = compaction._MANY
    print(f"{'runs':>6}  {'merging':>7}  {'seconds':>8}  {'open, ms':>8}  {'shards':>6}")
    count = 10
    while count <= options.runs:
        for merging in (False, True):
            compaction._MANY = many if merging else NEVER
            seconds, opening, shards = measure(count, options.rows)
            word = "yes" if merging else "no"
            print(f"{count:>6}  {word:>7}  {seconds:>8.2f}  {opening:>8.1f}  {shards:>6}")
        count *= 10


def measure(runs: int, rows: int) -> tuple[float, float, int]:
    """Return the seconds of some runs, the milliseconds of opening after them, and the shards."""
    features = np.random.default_rng(0).random((rows, 1280), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for number in range(runs):
            names = (f"{number} {row}".encode() for row in range(rows))
            keys = make_keys((digest_bytes(name), 0) for name in names)
            with BottleneckCache(folder, FINGERPRINT) as cache:
                if (cache.find(keys) < 0).any():
                    with cache.writer() as writer:
                        writer.add(keys, features)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        BottleneckCache(folder, FINGERPRINT).close()
        opening = 1000 * (time.perf_counter() - started)
        shards = len(list(Path(folder).rglob("shard-*")))
    return seconds, opening, shards


if __name__ == "__main__":
    main()
