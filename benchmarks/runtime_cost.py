"""What fic-runtime costs over a script that calls ONNX Runtime's two sessions by hand.

    python benchmarks/runtime_cost.py BUNDLE [--rounds 15] [--calls 40] [--threads 1]

Three comparisons, each measured in turn: `predict` on an array, from the start of a process to its
first answer (on the clock and in processor time, which other load disturbs less), and the peak
memory of that process. Whole processes are also measured without the cache of optimised graphs.
Linux only. The script by hand is what `runtime/README.md` shows: it checks
nothing, stretches or crops as the bundle does, shrinks by area and keeps ONNX Runtime's defaults.
"""

import argparse
import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from measuring import in_turn, median_ratio, spread, wall_seconds

from fic_runtime import Classifier
from fic_runtime.bundle import open_bundle
from fic_runtime.graphs.onnx_runtime import onnxruntime
from fic_runtime.images.resizing import central_part

# {0} is the bundle, {1} the picture, {2} the threads. The peak, in kB, is that of this program:
# ru_maxrss would begin with that of the process it was started from.
_PEAK = """
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
_BY_HAND = """
import json, cv2, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {2}
open_graph = lambda name: onnxruntime.InferenceSession("{0}/%s.onnx" % name, options)
base, head = open_graph("base"), open_graph("head")
with open("{0}/manifest.json", encoding="utf-8") as manifest:
    geometry = json.load(manifest)["preprocessing"]["geometry"]
width, height = geometry["width"], geometry["height"]
picture = cv2.cvtColor(cv2.imread("{1}"), cv2.COLOR_BGR2RGB)
if geometry["resize"] == "crop":
    rows, columns = picture.shape[:2]
    scale = geometry["crop_fraction"] * min(rows / height, columns / width)
    high, wide = round(scale * height), round(scale * width)
    top, left = (rows - high) // 2, (columns - wide) // 2
    picture = picture[top : top + high, left : left + wide]
picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
bottleneck, = base.run(["bottleneck"], {{"image": picture[None]}})
probabilities, = head.run(None, {{"bottleneck": bottleneck}})
with open("{0}/labels.txt", encoding="utf-8") as labels:
    print(labels.read().splitlines()[probabilities[0].argmax()])
"""
_BY_FIC = """
from fic_runtime import Classifier
print(Classifier("{0}", threads={2}).predict("{1}").label)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=40, help="of predict, in a round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    picture = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    with tempfile.TemporaryDirectory() as work:
        _compare_calls(options, picture)
        file = Path(work, "picture.png")
        cv2.imwrite(str(file), picture)
        _compare_processes(options, file, Path(work, "cache"))


def _compare_calls(options: argparse.Namespace, picture: np.ndarray) -> None:
    classifier = Classifier(options.bundle, device="cpu", threads=options.threads)
    by_hand = _by_hand(options.bundle, options.threads)
    if classifier.predict(picture).probabilities.tobytes() != by_hand(picture).tobytes():
        raise SystemExit(f"{options.bundle}: the script by hand gives other probabilities than fic")

    def each(answer: Callable[[np.ndarray], object]) -> float:
        # The quickest call of a round is the one that nothing else disturbed.
        return 1000 * min(_busy_seconds(lambda: answer(picture)) for _ in range(options.calls))

    figures = in_turn(
        options.rounds,
        fic=lambda: each(classifier.predict),
        by_hand=lambda: each(by_hand),
    )
    _report("predict, processor ms", figures, "fic", "by_hand")


def _busy_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _by_hand(bundle: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    base, head = (
        onnxruntime.InferenceSession(
            f"{bundle}/{name}.onnx", settings, providers=["CPUExecutionProvider"]
        )
        for name in ("base", "head")
    )
    geometry = open_bundle(bundle).manifest.preprocessing.geometry
    size = geometry.width, geometry.height

    def predict(picture: np.ndarray) -> np.ndarray:
        if geometry.resize == "crop":
            top, left, rows, columns = central_part(*picture.shape[:2], geometry)
            picture = picture[top : top + rows, left : left + columns]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        (bottleneck,) = base.run(["bottleneck"], {"image": picture[None]})
        (probabilities,) = head.run(None, {"bottleneck": bottleneck})
        probabilities[0].argmax()
        return probabilities[0]

    return predict


def _compare_processes(options: argparse.Namespace, picture: Path, cache: Path) -> None:
    peaks: dict[str, list[float]] = {}

    busy: dict[str, list[float]] = {}

    def process(side: str, program: str, folder: str) -> float:
        command = [
            sys.executable,
            "-c",
            program.format(options.bundle.absolute(), picture, options.threads) + _PEAK,
        ]
        # Compiled once, as pip leaves every package that it installs.
        environment = {**os.environ, "FIC_CACHE_DIR": folder, "PYTHONPYCACHEPREFIX": str(cache)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        answer: list[str] = []

        def run() -> None:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            answer.extend(done.stdout.split())

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = wall_seconds(run)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy.setdefault(side, []).append(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )
        peaks.setdefault(side, []).append(int(answer[-1]) / 1024)
        return seconds

    sides = {
        "fic": functools.partial(process, "fic", _BY_FIC, str(cache)),
        "no_cache": functools.partial(process, "no_cache", _BY_FIC, ""),
        "by_hand": functools.partial(process, "by_hand", _BY_HAND, ""),
    }
    for warm in sides.values():
        warm()
    peaks.clear()
    busy.clear()
    figures = in_turn(options.rounds, **sides)
    for name, values in (
        ("start to first answer, s", figures),
        ("the same in processor seconds", busy),
        ("peak memory, MB", peaks),
    ):
        _report(name, values, "fic", "by_hand")
        _report(f"{name}, without the cache", values, "no_cache", "by_hand")


def _report(what: str, figures: dict[str, list[float]], ours: str, theirs: str) -> None:
    ratio = median_ratio(figures[ours], figures[theirs])
    least = min(figures[ours]) / min(figures[theirs])
    print(
        f"{what}: fic {spread(figures[ours])}, by hand {spread(figures[theirs])}, "
        f"ratio {ratio:.3f}, of the least {least:.3f}, "
        f"difference {statistics.median(figures[ours]) - statistics.median(figures[theirs]):+.4g}"
    )


if __name__ == "__main__":
    main()
