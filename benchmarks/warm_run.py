"""What the cache spares: whole processes of `fic train` and `fic predict`, first and again.

    python benchmarks/warm_run.py PHOTOS [--base NAME] [--weights imagenet] [--rounds 3]

In turn, each in a process of its own: the imports that no command can do without (NumPy, h5py,
OpenCV, click, ONNX Runtime); the first training, with empty caches; the same in another cache on
this machine, which knows the base by then, against the time that decoding and the base alone
take; a training with everything cached; and the prediction of one photo. On an idle machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measuring import median_ratio, some_photos, spread, wall_seconds

IMPORTS = "import numpy, h5py, cv2, click, onnxruntime"
# Decoding and the base at the machine's ceiling: one thread for each processor, nothing else.
CEILING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from fic_runtime.devices import usable_cpus
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image
from fic.bases import find_base
graph, base, photos = sys.stdin.read().splitlines()
geometry = find_base(base).preprocessing().geometry
run = Graph(Path(graph), threads=1).run
files = [path for path in sorted(Path(photos).rglob("*")) if path.suffix == ".jpg"]
work = lambda some: run(np.stack([load_image(path, geometry) for path in some]))
started = time.perf_counter()
with ThreadPoolExecutor(usable_cpus()) as pool:
    list(pool.map(work, [files[start : start + 16] for start in range(0, len(files), 16)]))
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    figures: dict[str, list[float]] = {}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as work:
            for name, seconds in measured(options, Path(work)).items():
                figures.setdefault(name, []).append(seconds)
        print(f"round {number + 1}:", {name: round(v[-1], 2) for name, v in figures.items()})
    for name, values in figures.items():
        print(f"{name:<24} {spread(values)} s")
    for above, below in (("warm", "imports"), ("warm", "first"), ("known base", "ceiling")):
        print(f"{above} / {below}: {median_ratio(figures[above], figures[below]):.3f}")


def measured(options: argparse.Namespace, work: Path) -> dict[str, float]:
    """Return the seconds of each process, in caches that are empty at first."""
    environment = {**os.environ, "FIC_CACHE_DIR": str(work / "machine")}
    python = partial(_seconds, environment)

    def train(cache: str) -> float:
        return python(
            *("-m", "fic", "train", "--data", str(options.photos), "--out", str(work / "run")),
            *("--base-model", options.base, "--weights", options.weights),
            *("--bottleneck-dir", str(work / cache)),
        )

    found = {"imports": python("-c", IMPORTS), "first": train("one"), "known base": train("two")}
    (graph,) = (work / "machine" / "bases").glob("*/base.onnx")
    arguments = [str(graph), options.base, str(options.photos)]
    done = subprocess.run(
        [sys.executable, "-c", CEILING],
        **{
            "input": "\n".join(arguments),
            "check": True,
            "capture_output": True,
            "text": True,
            "env": environment,
        },
    )
    (photo,) = some_photos(options.photos, 1)
    return {
        **found,
        "ceiling": float(done.stdout),
        "warm": train("one"),
        "predict one photo": python("-m", "fic", "predict", str(work / "run"), str(photo)),
    }


def _seconds(environment: dict[str, str], *arguments: str) -> float:
    run = partial(subprocess.run, check=True, capture_output=True, env=environment)
    return wall_seconds(partial(run, [sys.executable, *arguments]))


if __name__ == "__main__":
    main()
