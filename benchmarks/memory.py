"""Peak memory of `fic extract` with few and with many pictures: it must not grow.

    python benchmarks/memory.py [--few 2000] [--many 20000] [--base mobilenet_v2_0.35]

The pictures are generated, all different, and deleted afterwards.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

_CHILD = """
import resource, sys
from fic.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=2000)
    parser.add_argument("--many", type=int, default=20000)
    parser.add_argument("--base", default="mobilenet_v2_0.35")
    parser.add_argument("--image-size", default="96")
    parser.add_argument("--engine", default="onnx", help="onnx: without TensorFlow's 500 MB")
    options = parser.parse_args()

    peaks = {}
    with tempfile.TemporaryDirectory() as work:
        _extract(_write(Path(work, "warm-up"), 20), options, work)  # converts the base
        for count in (options.few, options.many):
            folder = _write(Path(work, str(count)), count)
            peaks[count] = _extract(folder, options, work)
            print(f"{count:>6} pictures: {peaks[count] / 1024:.0f} MB")
    print(f"ratio {peaks[options.many] / peaks[options.few]:.3f}")


def _write(folder: Path, count: int) -> Path:
    random = np.random.default_rng(count)
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        soft = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(file), cv2.resize(soft, (320, 240), interpolation=cv2.INTER_CUBIC))
    return folder


def _extract(folder: Path, options: argparse.Namespace, work: str) -> int:
    arguments = [
        *("extract", "--data", str(folder), "--base-model", options.base, "--weights", "none"),
        *("--image-size", options.image_size, "--bottleneck-dir", f"{work}/bottlenecks"),
        *("--engine", options.engine),
    ]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], check=True, capture_output=True, text=True
    )
    return int(child.stderr.split()[-1])


if __name__ == "__main__":
    main()
