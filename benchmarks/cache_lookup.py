"""Open a cache of a million bottlenecks, find every one of them, and read random ones.

    python benchmarks/cache_lookup.py [--images 1000000] [--repeats 5]

The bottlenecks are synthetic, 8 floats each, in shards of 1000. Each repeat is a fresh process;
the first look-up compares all checksums. Random reads are measured on 1280-float bottlenecks as
well, beside h5py reading the same rows.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from fic.cache import BottleneckCache
from fic.fingerprint import Fingerprint
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

IMAGES_PER_SHARD = 1000
GOAL_SECONDS, GOAL_MB = 3.0, 300


def fingerprint(features: int) -> Fingerprint:
    return Fingerprint(
        base="synthetic",
        weights="none",
        tensor="output",
        pooling="avg",
        preprocessing=Preprocessing(geometry=Geometry(height=224, width=224), pixels=Pixels()),
        dtype="float32",
        shape=(features,),
    )


def keys_of_shard(shard: int, count: int) -> np.ndarray:
    raw = np.random.default_rng(shard).bytes(20 * count)
    return np.frombuffer(raw, "S20")


def fill(directory: str, features: int, images: int) -> None:
    random = np.random.default_rng(0)
    with BottleneckCache(directory, fingerprint(features)) as cache, cache.writer() as writer:
        for shard in range(images // IMAGES_PER_SHARD):
            rows = random.random((IMAGES_PER_SHARD, features), np.float32)
            writer.add(keys_of_shard(shard, IMAGES_PER_SHARD), rows)
            writer.commit()


def measure(directory: str, images: int) -> None:
    """Print, as JSON, the seconds and the peak memory of one fresh process."""
    shards = range(images // IMAGES_PER_SHARD)
    keys = np.concatenate([keys_of_shard(shard, IMAGES_PER_SHARD) for shard in shards])
    keys = keys[np.random.default_rng(1).permutation(len(keys))]
    processor = time.process_time()
    times = [time.perf_counter()]
    with BottleneckCache(directory, fingerprint(8)) as cache:
        times.append(time.perf_counter())
        rows = cache.find(keys)
        times.append(time.perf_counter())
        processor = time.process_time() - processor
        cache.find(keys)
        times.append(time.perf_counter())
    if (rows < 0).any() or len(np.unique(rows)) != len(keys):
        raise SystemExit("a key was not found")
    opened, first, again = np.diff(times).tolist()
    seconds = {"open": opened, "find": first, "again": again, "processor": processor}
    print(json.dumps({**seconds, "MB": peak_mb()}))


def peak_mb() -> float:
    # Not getrusage alone: on Linux that counts the parent's memory at the fork as well.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_random_reads(directory: str, repeats: int) -> None:
    features, images = 1280, 20_000
    fill(directory, features, images)
    random = np.random.default_rng(2)
    ours, theirs = [], []
    with BottleneckCache(directory, fingerprint(features)) as cache:
        path = cache.shard_of(0)
        with h5py.File(path) as file:
            table = file["features"]
            for _ in range(100 * repeats):
                wanted = np.sort(random.choice(IMAGES_PER_SHARD, 32, replace=False))
                start = time.perf_counter()
                from_cache = cache.read(wanted)
                middle = time.perf_counter()
                from_h5py = table[wanted]
                ours.append(middle - start)
                theirs.append(time.perf_counter() - middle)
                assert np.array_equal(from_cache, from_h5py)
        spread = []
        for _ in range(100 * repeats):
            wanted = random.choice(images, 32)
            start = time.perf_counter()
            cache.read(wanted)
            spread.append(time.perf_counter() - start)
    print(f"32 random rows of 1280 floats, of one shard   {median_ms(ours):8.3f} ms")
    print(f"the same rows through h5py                    {median_ms(theirs):8.3f} ms")
    print(f"32 random rows of 1280 floats, of {images // IMAGES_PER_SHARD} shards  ", end="")
    print(f"{median_ms(spread):8.3f} ms")


def median_ms(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, options.images)
    with tempfile.TemporaryDirectory() as directory:
        fill(directory, 8, options.images)
        command = [sys.executable, __file__, "--images", str(options.images)]
        command += ["--measure", directory]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(options.repeats)
        ]
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print(f"{options.images} bottlenecks, median of {options.repeats} fresh processes")
    print(f"open                                          {middle['open']:8.2f} s")
    print(f"find all, with their checksums                {middle['find']:8.2f} s")
    print(f"find all again                                {middle['again']:8.2f} s")
    total = middle["open"] + middle["find"]
    print(f"open and find                                 {total:8.2f} s (goal {GOAL_SECONDS})")
    print(f"processor time of that                        {middle['processor']:8.2f} s")
    print(f"peak memory                                   {middle['MB']:8.0f} MB (goal {GOAL_MB})")
    with tempfile.TemporaryDirectory() as directory:
        measure_random_reads(directory, options.repeats)
    return None


if __name__ == "__main__":
    main()
