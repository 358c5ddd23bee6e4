"""int8 and fp16 against float32: speed, size, and what is lost.

    python benchmarks/quantization.py --runs RUN ... [--batch 1 32]
    python benchmarks/quantization.py --base NAME ... --pictures DIR [--batch 1 32]

A run has real weights, and its head tells what is lost: accuracy and probabilities on its
validation pictures, calibrated on its training pictures. A base alone has random weights, with
statistics that a trained one could have, so only the likeness of bottlenecks can be measured, and
it says less: such a network tells pictures apart by little. Speeds are measured in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bases import converted, load, train_statistics
from measuring import in_turn, median_ratio

from fic.bases import find_base
from fic.bases.models import build_base
from fic.exporting.pictures import in_turn as one_of_each_class
from fic.exporting.pictures import training_pictures
from fic.runs import Run
from fic_export.conversion import convert_head
from fic_export.quantization.fp16 import convert_to_half
from fic_export.quantization.int8 import quantize_int8
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image
from fic_runtime.images.picture_files import IMAGE_SUFFIXES
from fic_runtime.preprocessing import Geometry

Array = np.ndarray[Any, Any]
_TURN_SECONDS = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUN")
    parser.add_argument("--base", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="for --base")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.base and options.pictures is None:
        parser.error("--base needs --pictures")
    print(
        "| base | form | size | " + " | ".join(f"speed, batch {n}" for n in options.batch), end=""
    )
    print(" | lost |\n|---|---|---:|" + "---:|" * len(options.batch) + "---|")
    for folder in options.runs:
        _measure_run(Run(folder), options)
    for name in options.base:
        _measure_base(name, options)


def _measure_run(run: Run, options: argparse.Namespace) -> None:
    base = run.frozen_base()
    geometry = base.preprocessing.geometry
    rows = run.validation()
    images = _load([row.path for row in rows], geometry)
    targets = np.array([run.labels.index(row.label) for row in rows])
    chosen = islice(one_of_each_class(training_pictures(run)), options.calibration)
    calibration = _load([path for path, _ in chosen], geometry)
    head = Graph(convert_head(run.head()).SerializeToString(), device="cpu")

    def lost(expected: Array, found: Array) -> str:
        before, after = head.run(expected), head.run(found)
        named, wanted = after.argmax(axis=1), before.argmax(axis=1)
        return (
            f"accuracy {(wanted == targets).mean():.4f} → {(named == targets).mean():.4f}, "
            "same class "
            f"{(named == wanted).mean():.1%}, probabilities differ by "
            f"{np.abs(after - before).mean():.4f} on average"
        )

    model = onnx.load(base.graph_file())
    _compare(
        f"{base.spec.name}, {Path(base.options.weights).name}",
        model,
        calibration,
        images,
        lost,
        options,
    )


def _measure_base(name: str, options: argparse.Namespace) -> None:
    base = find_base(name)
    files = [
        file
        for file in sorted(options.pictures.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    files = files[:: max(1, len(files) // (2 * options.calibration))]
    images = load(files, base, base.size)
    model = build_base(base, weights="none")
    train_statistics(model, base, images[:16])
    graph = onnx.load_from_string(converted(model, base, base.size))

    def lost(expected: Array, found: Array) -> str:
        norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        cosine = (expected * found).sum(axis=1) / norms
        spread = np.linalg.norm(expected - expected.mean(axis=0))
        error = np.linalg.norm(expected - found) / spread
        return f"cosine {cosine.mean():.4f} (least {cosine.min():.4f}), error ÷ spread {error:.2f}"

    _compare(f"{name}, random", graph, images[1::2], images[::2], lost, options)


def _load(files: Sequence[Path], geometry: Geometry) -> Array:
    return np.stack([load_image(file, geometry) for file in files])


def _compare(
    title: str,
    model: onnx.ModelProto,
    calibration: Array,
    images: Array,
    lost: Callable[[Array, Array], str],
    options: argparse.Namespace,
) -> None:
    forms = {
        "float32": model,
        "int8": quantize_int8(model, list(calibration)),
        "fp16": convert_to_half(model),
    }
    data = {name: form.SerializeToString() for name, form in forms.items()}
    graphs = {name: Graph(content, name=name, device="cpu") for name, content in data.items()}
    bottlenecks = {
        name: np.concatenate([graph.run(images[i : i + 16]) for i in range(0, len(images), 16)])
        for name, graph in graphs.items()
    }
    speeds = []
    for size in options.batch:
        batch = np.resize(images, (size, *images.shape[1:]))
        sides = {name: _turn(graph, batch) for name, graph in graphs.items()}
        speeds.append(in_turn(options.rounds, **sides))
    for name in forms:
        cells = []
        for speed in speeds:
            ratio = median_ratio(speed[name], speed["float32"])
            cells.append(f"{statistics.median(speed[name]):.1f} /s ({ratio:.2f})")
        size = f"{len(data[name]) / 1e6:.1f} MB ({len(data[name]) / len(data['float32']):.2f})"
        what = "" if name == "float32" else lost(bottlenecks["float32"], bottlenecks[name])
        print(f"| `{title}` | {name} | {size} | {' | '.join(cells)} | {what} |", flush=True)


def _turn(graph: Graph, batch: Array) -> Callable[[], float]:
    graph.run(batch)  # the first pass allocates

    def turn() -> float:
        passes, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < _TURN_SECONDS or not passes:
            graph.run(batch)
            passes += 1
        return passes * len(batch) / seconds

    return turn


if __name__ == "__main__":
    main()
