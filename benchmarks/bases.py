"""Every base of the table: does it convert, how exactly, and how large and fast is its graph?

    python benchmarks/bases.py [--base NAME ...] [--pictures DIR] [--write docs/bases.md]

Each base is built with random weights and with statistics that a trained one could have, converted
at its own size and at one 32 pixels smaller, and run on pictures by Keras and by the runtime, one
picture at a time and all of them at once. Each has a process of its own, and the cheapest one comes
first. Results are kept in --results as they come; the same command goes on after an interruption.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from bases_page import page
from measuring import in_turn, median_ratio

from fic.bases import BASES, Base, find_base
from fic.bases.figures import REFERENCE
from fic.bases.models import build_base
from fic_export.conversion import convert_base
from fic_export.versions import made_with
from fic_runtime.devices import usable_cpus
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image
from fic_runtime.images.picture_files import IMAGE_SUFFIXES
from fic_runtime.preprocessing import Geometry

if TYPE_CHECKING:
    import keras

BOUND = 1e-3  # of the largest value in the bottleneck of the same picture
_TURN_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", nargs="+", default=list(BASES), metavar="NAME")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="drawn ones unless given")
    parser.add_argument("--count", type=int, default=8, help="pictures to compare on, at least 2")
    parser.add_argument("--against", default=REFERENCE, help="base that speed is relative to")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one base")
    parser.add_argument("--results", type=Path, default=Path("bases.json"))
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page that shows them")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    settings = {
        "bound": BOUND,
        "against": options.against,
        "rounds": options.rounds,
        "pictures": f"{options.count} {'photos' if options.pictures else 'drawn pictures'}",
        "machine": _machine(),
        "versions": made_with(),
    }
    rows = _earlier_rows(options.results, settings)
    with tempfile.TemporaryDirectory(prefix="fic-benchmark-") as folder:
        for name, row in _sweep(options, Path(folder), done=rows):
            rows[name] = row
            text = json.dumps({"settings": settings, "rows": rows}, indent=1)
            options.results.write_text(text, encoding="utf-8")
    if options.write is not None:
        options.write.write_text(page(settings, rows), encoding="utf-8")
    wrong = [
        name
        for name, row in rows.items()
        if not all(difference <= BOUND for difference in row.get("differences", []))
    ]
    if wrong:
        sys.exit(f"further from Keras than {BOUND}: {', '.join(wrong)}")


def _sweep(
    options: argparse.Namespace, work: Path, *, done: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield what each base gave that is not done yet, the cheapest one first."""
    pictures = _pictures(options.pictures, options.count, work)
    reference = work / "reference.onnx"
    bases = sorted(map(find_base, options.base), key=lambda base: base.parameters * base.size**2)
    for base in bases:
        if "failed" not in done.get(base.name, {"failed": "not tried"}):
            continue
        if not reference.exists():
            against = find_base(options.against)
            problem = _in_a_process(options.timeout, _write_reference, against, pictures, reference)
            if problem:
                sys.exit(f"{against.name}: {problem['failed']}")
        row = _in_a_process(options.timeout, _measure, base, pictures, reference, options.rounds)
        print(base.name, json.dumps(row), flush=True)
        yield base.name, row


def _earlier_rows(results: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    if not results.exists():
        return {}
    earlier = json.loads(results.read_text(encoding="utf-8"))
    if earlier["settings"] != settings:
        sys.exit(f"{results}: was measured otherwise; move it away or give another --results")
    rows: dict[str, Any] = earlier["rows"]
    return rows


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{usable_cpus()} cores of {models[0] if models else platform.machine()}"


def _pictures(folder: Path | None, count: int, work: Path) -> list[Path]:
    """Return `count` files out of all of a folder, evenly spaced, or draw them."""
    if folder is None:
        return [_draw(work / f"{number}.png", number) for number in range(count)]
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
    if len(files) < count:
        sys.exit(f"{folder}: holds {len(files)} pictures, --count is {count}")
    return files[:: len(files) // count][:count]


def _draw(file: Path, seed: int) -> Path:
    """Write a picture of soft colours under grain."""
    random = np.random.default_rng(seed)
    soft = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(soft, (640, 480), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(file), cv2.add(picture, random.integers(0, 30, picture.shape, dtype=np.uint8)))
    return file


# --- one process for each base ---


def _in_a_process(timeout: float, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns in a process of its own, or a row that says why it did not."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, *arguments))
    process.start()
    there.close()
    try:
        if here.poll(timeout):
            return here.recv()
        return {"failed": f"no result within {timeout:.0f} s"}
    except EOFError:
        process.join()
        killed = process.exitcode == -9
        reason = "killed, most likely for want of memory" if killed else "the process ended early"
        return {"failed": reason}
    finally:
        process.kill()
        process.join()


def _answer(connection: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    try:
        connection.send(work(*arguments))
    # Whatever goes wrong with one base is its result; the sweep goes on.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        connection.send({"failed": f"{type(error).__name__}: {reason}"})


def _write_reference(base: Base, pictures: Sequence[Path], file: Path) -> None:
    model = build_base(base, weights="none")
    train_statistics(model, base, load(pictures, base, base.size))
    file.write_bytes(converted(model, base, base.size))


def _measure(base: Base, pictures: Sequence[Path], reference: Path, rounds: int) -> dict[str, Any]:
    import keras

    graph = reference.with_name("base.onnx")
    sizes = [base.size, max(base.minimum_size, base.size - 32)]
    differences: list[float] = []
    weights: list[np.ndarray[Any, Any]] = []
    for size in sizes:
        model = build_base(base, weights="none", size=size)
        batch = load(pictures, base, size)
        if weights:
            model.set_weights(weights)
        else:
            train_statistics(model, base, batch)
            weights = model.get_weights()
        file = graph if size == base.size else graph.with_name("other.onnx")
        file.write_bytes(converted(model, base, size))
        differences.append(_difference(Graph(file, device="cpu"), model, base, batch))
        # Two models of the largest ones side by side would not fit into an ordinary machine.
        del model
        keras.backend.clear_session()
        gc.collect()
    row = {"sizes": sizes, "differences": differences, "bytes": graph.stat().st_size}
    return row | _speed(graph, reference, pictures[0], rounds)


def converted(model: "keras.Model", base: Base, size: int) -> bytes:
    data: bytes = convert_base(model, base.preprocessing(size=size)).SerializeToString()
    return data


def load(pictures: Sequence[Path], base: Base, size: int) -> np.ndarray[Any, Any]:
    geometry = base.preprocessing(size=size).geometry
    return np.stack([load_image(file, geometry) for file in pictures])


def train_statistics(model: "keras.Model", base: Base, batch: np.ndarray[Any, Any]) -> None:
    """Give normalisations and biases values that a trained network could have.

    Fresh ones (0 and 1, and 1e-6 in ConvNeXt's LayerScale) would hide errors. Moving statistics
    come from the pictures first, so that values neither vanish nor explode, and are then shaken.
    """
    import tensorflow as tf

    random = np.random.default_rng(0)
    model.trainable = True
    for layer in model.layers:
        for weight in layer.weights:
            if weight is getattr(layer, "gamma", None):  # LayerScale does not name it
                weight.assign(random.uniform(0.25, 0.75, weight.shape))
            elif weight.name in ("beta", "bias"):
                weight.assign(random.normal(0, 0.2, weight.shape))
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    # As a graph: Keras by itself would hold all feature maps until the end, 20 GB of the largest.
    tf.function(model)(tf.constant(base.pixels.apply(batch.astype(np.float32))), training=True)
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            variance = layer.moving_variance.numpy()
            # A channel that is all but constant would blow up each difference of rounding.
            variance = variance * random.uniform(0.8, 1.2, variance.shape) + 0.1 * variance.mean()
            layer.moving_variance.assign(variance)
            layer.moving_mean.assign_add(random.normal(0, 0.1, variance.shape) * np.sqrt(variance))
    model.trainable = False


def _difference(
    graph: Graph, model: "keras.Model", base: Base, batch: np.ndarray[Any, Any]
) -> float:
    """Return how far the graph is from Keras, as a share of a bottleneck's largest value."""
    pixels = base.pixels.apply(batch.astype(np.float32))
    expected = np.concatenate([model(pixels[[index]]).numpy() for index in range(len(batch))])
    scale = np.abs(expected).max(axis=1, keepdims=True)
    together = graph.run(batch)
    alone = np.concatenate([graph.run(batch[[index]]) for index in range(len(batch))])
    difference = max(float((np.abs(got - expected) / scale).max()) for got in (together, alone))
    # A base that gives nearly the same for all pictures would agree with anything.
    between_pictures = float((np.ptp(expected, axis=0) / scale).max())
    if difference <= BOUND and not between_pictures > 100 * difference:
        raise ValueError(
            f"with random weights the pictures differ by {between_pictures:.0e} only, "
            f"the runtime from Keras by {difference:.0e}"
        )
    return difference


def _speed(graph: Path, reference: Path, picture: Path, rounds: int) -> dict[str, float]:
    """Return pictures per second, one at a time, and how that compares with the reference."""
    figures = in_turn(rounds, base=_turn(graph, picture), against=_turn(reference, picture))
    return {
        "pictures_per_second": statistics.median(figures["base"]),
        "relative_speed": median_ratio(figures["base"], figures["against"]),
    }


def _turn(file: Path, picture: Path) -> Callable[[], float]:
    graph = Graph(file, device="cpu")
    _, height, width, _ = graph.input.shape
    batch = load_image(picture, Geometry(height=height, width=width))[np.newaxis]
    graph.run(batch)  # the first pass allocates

    def turn() -> float:
        passes, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < _TURN_SECONDS:
            graph.run(batch)
            passes += 1
        return passes / seconds

    return turn


if __name__ == "__main__":
    main()
