"""What do two graphs, base and head, cost against the same two fused in one?

    python benchmarks/single_graph.py [--base mobilenet_v2_0.35] [--classes 5] [--rounds 10]

A bundle with a base of random weights and a linear head is exported with `--single-graph`; pictures
that are decoded already go through the two graphs of the bundle and through its `classifier.onnx`
in turn, on the CPU, one picture at a time and 16 at once.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import in_turn, median_ratio, spread

from fic.bases import find_base
from fic.bases.models import build_base
from fic_export import export_bundle
from fic_runtime import Classifier
from fic_runtime.graphs.graph import Graph

_BATCHES = (1, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", nargs="+", default=["mobilenet_v2_0.35"], metavar="NAME")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn of one side")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    rows = []
    for name in options.base:
        with tempfile.TemporaryDirectory(prefix="fic-benchmark-") as folder:
            bundle = Path(folder) / "bundle"
            size = _export(name, options.classes, bundle)
            rows += [f"| `{name}` | {row}" for row in _rows(bundle, size, options)]
    print("\n| | batch | two graphs, ms | one, ms | two ÷ one |\n|---|---|---|---|---|")
    print(*rows, sep="\n")


def _export(name: str, classes: int, bundle: Path) -> int:
    import keras

    base = find_base(name)
    model = build_base(base, weights="none")
    head = keras.Sequential(
        [keras.Input(model.output_shape[1:]), keras.layers.Dense(classes, activation="softmax")]
    )
    labels = [f"class {number}" for number in range(classes)]
    preprocessing = base.preprocessing(size=base.size)
    export_bundle(
        model, head, labels=labels, preprocessing=preprocessing, out=bundle, single_graph=True
    )
    return base.size


def _rows(bundle: Path, size: int, options: argparse.Namespace) -> list[str]:
    rows = []
    random = np.random.default_rng(0)
    fused = Graph(bundle / "classifier.onnx", device="cpu")
    with Classifier(bundle, device="cpu") as classifier:
        for batch in _BATCHES:
            pixels = random.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
            figures = in_turn(
                options.rounds,
                two=_turn(lambda pixels=pixels: classifier.run(pixels), options.seconds),
                one=_turn(lambda pixels=pixels: fused.run(pixels), options.seconds),
            )
            ratio = median_ratio(figures["two"], figures["one"])
            sides = f"{spread(figures['two'])} | {spread(figures['one'])}"
            rows.append(f"{batch} | {sides} | **{ratio:.3f}** |")
    return rows


def _turn(work: Callable[[], Any], seconds: float) -> Callable[[], float]:
    work()  # the first pass allocates

    def turn() -> float:
        """Return the median milliseconds of a call."""
        times, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return 1000 * statistics.median(times)

    return turn


if __name__ == "__main__":
    main()
