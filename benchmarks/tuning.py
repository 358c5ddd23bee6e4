"""`fic tune` and `fic compare` on cached bottlenecks: seconds, and what they choose.

    python benchmarks/tuning.py PHOTOS [--rounds 3] [--base-models NAME,NAME]

The bottlenecks are extracted first. `tune` tries all its heads in five folds, `curve` measures the
learning curve as well; `compare` trains the default head in the same folds on each base.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from fic import CacheOptions, Source, compare, tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base-models", default="efficientnet_lite0,mobilenet_v2_0.35")
    options = parser.parse_args()
    source = Source(data=options.photos)
    with tempfile.TemporaryDirectory(prefix="fic-benchmark-") as folder:
        cache = CacheOptions(bottleneck_dir=Path(folder))
        tune(source, out=None, cache=cache, progress=False)
        for name, curve in (("tune", False), ("curve", True)):
            seconds = []
            for _ in range(options.rounds):
                found = tune(source, out=None, cache=cache, learning_curve=curve, progress=False)
                seconds.append(found.seconds)
            print(f"{name}: {statistics.median(seconds):.1f} s, {found.chosen.candidate}")
            if found.curve is not None:
                print(found.curve.sentence())
        names = options.base_models.split(",")
        compare(source, names, cache=cache, progress=False)
        started = time.perf_counter()
        comparison = compare(source, names, cache=cache, progress=False)
        print(f"compare: {time.perf_counter() - started:.1f} s, {comparison.reason}")


if __name__ == "__main__":
    main()
