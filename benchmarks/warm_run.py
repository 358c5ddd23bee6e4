"""A second `fic train` against the first: only the head changes, and no base is built.

    python benchmarks/warm_run.py PHOTOS [--base resnet50] [--epochs 6] [--rounds 3]

Runs whole processes: the first with an empty cache, then one with another learning rate, and one
that only does `import keras`. What `fic train` itself spent is read from run.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measuring import spread, wall_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default="resnet50")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    figures: dict[str, list[float]] = {
        name: [] for name in ("cold", "warm", "import keras", "cold net", "warm net")
    }
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as work:
            for name, rate in (("cold", "0.001"), ("warm", "0.0003")):
                command = [
                    *(sys.executable, "-m", "fic", "train", "--data", str(options.photos)),
                    *("--base-model", options.base, "--weights", "none", "--lr", rate),
                    *("--epochs", str(options.epochs), "--out", f"{work}/run"),
                    *("--bottleneck-dir", f"{work}/bottlenecks"),
                ]
                figures[name].append(wall_seconds(partial(_run, command)))
                record = json.loads(Path(work, "run", "run.json").read_text())
                print(f"round {number + 1} {name}: {record['seconds']} {record['cache']}")
            imports = [sys.executable, "-c", "import keras"]
            figures["import keras"].append(wall_seconds(partial(_run, imports)))
        for name in ("cold", "warm"):
            figures[f"{name} net"].append(figures[name][-1] - figures["import keras"][-1])
    for name, values in figures.items():
        print(f"{name:<13} {spread(values)} s")
    net = statistics.median(
        w / c for w, c in zip(figures["warm net"], figures["cold net"], strict=True)
    )
    print(f"warm / cold, net of `import keras`: {net:.3f}")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
