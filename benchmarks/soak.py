"""Resident memory of one classifier over many calls: it must not creep.

    python benchmarks/soak.py BUNDLE [--calls 10000] [--largest-batch 8] [--threads 1]
        [--lean-memory]

Batches of 1 to `--largest-batch` pictures of random sizes, drawn from a seed, through
`predict_batch`. Linux only: VmRSS of /proc/self/status.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from fic_runtime import Classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--calls", type=int, default=10000)
    parser.add_argument("--largest-batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lean-memory", action="store_true")
    options = parser.parse_args()

    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (1000, 1000, 3), np.uint8)
    every = max(1, options.calls // 10)
    classifier = Classifier(
        options.bundle, device="cpu", threads=options.threads, lean_memory=options.lean_memory
    )
    resident, started, done = [], time.process_time(), 0
    for call in range(1, options.calls + 1):
        height, width = random.integers(16, 1000, 2)
        number = int(random.integers(1, options.largest_batch + 1))
        classifier.predict_batch([picture[:height, :width]] * number, batch_size=number)
        done += number
        if call % every == 0:
            resident.append(_resident_mib())
            each = 1000 * (time.process_time() - started) / done
            print(f"{call:>6} calls: {resident[-1]:.1f} MB, {each:.2f} ms/picture", flush=True)
    print(f"growth from the first tenth to the last: {resident[-1] - resident[0]:+.1f} MB")


def _resident_mib() -> float:
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
