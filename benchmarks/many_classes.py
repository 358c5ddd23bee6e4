"""How training, evaluation and export grow with the number of classes.

    python benchmarks/many_classes.py [--classes 10 100 1000] [--pictures 10] [--folder DIR]

Draws so many small pictures of each class, each class around a color of its own, and runs
`fic train`, `fic evaluate` and `fic export --teachable` on them as whole processes, with
`mobilenet_0.25` of random weights at 32 pixels. Prints seconds, the peak of memory and the size of
`metrics.json`.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

BASE = ["--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--pictures", type=int, default=10, help="of each class")
    parser.add_argument("--folder", type=Path, help="keep what was made here")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    print(f"{'classes':>8}{'command':>10}{'seconds':>10}{'peak MB':>10}{'metrics.json kB':>17}")
    for classes in options.classes:
        measure(folder / str(classes), classes, options.pictures)


def measure(folder: Path, classes: int, pictures: int) -> None:
    """Print a line for each command on so many classes."""
    if not (folder / "data").is_dir():
        draw(folder / "data", classes, pictures)
    for name, arguments in commands(folder).items():
        seconds, peak = process(arguments)
        size = (folder / "run" / "metrics.json").stat().st_size / 1e3
        print(f"{classes:8}{name:>10}{seconds:10.1f}{peak / 1e6:10.0f}{size:17.0f}", flush=True)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each command for the pictures in `data` of a folder."""
    data, run, bundle = (str(folder / name) for name in ("data", "run", "bundle"))
    cache = ["--bottleneck-dir", str(folder / "bottlenecks")]
    return {
        "train": ["train", "--data", data, *BASE, *cache, "--epochs", "5", "--out", run],
        "evaluate": ["evaluate", run, "--data", data],
        "export": ["export", run, "--out", bundle, "--teachable", "--min-agreement", "0"],
    }


def draw(folder: Path, classes: int, pictures: int) -> None:
    """Write JPEG files of 32 by 32 pixels, a folder for each class."""
    random = np.random.default_rng(0)
    for label in range(classes):
        place = folder / f"class {label:05}"
        place.mkdir(parents=True)
        color = random.integers(0, 255, 3)
        for picture in range(pictures):
            pixels = np.clip(random.normal(color, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(place / f"{picture}.jpg"), pixels)


def process(arguments: list[str]) -> tuple[float, float]:
    """Run fic as a process of its own; return its seconds and the peak of its memory in bytes."""
    started = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "fic", *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"fic {arguments[0]} failed")
    return time.perf_counter() - started, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
