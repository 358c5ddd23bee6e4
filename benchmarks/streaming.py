"""Many photos one by one, in batches, as a stream and from eight threads, by `Classifier`.

    python benchmarks/streaming.py BUNDLE PHOTOS [--images 1000] [--rounds 3] [--threads 2]
    python benchmarks/streaming.py BUNDLE PHOTOS --soak 20000

All start at the files. `predict` decodes and computes each photo in turn; `predict_batch` and
`stream` have no options, then batches of 32, and then a classifier of one thread. Each is compared
with the best of them in the same round. `eight_threads` call `predict` of one classifier. The
answers are compared too: how far are they from those of single photos? First comes the memory of a
process that predicts, then streams, and of one that only streams with one thread (Linux only): the
weights are there once if they differ by less than the weights. `--soak` streams so many photos, in
turn, and prints the peak of memory after a tenth of them and after all.
"""

import argparse
import itertools
import multiprocessing
import resource
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from measuring import in_turn, median_ratio, some_photos, spread, wall_seconds

from fic_runtime import Classifier, Prediction

CALLERS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--soak", type=int)
    options = parser.parse_args()

    files = some_photos(options.photos, options.images)
    if options.soak:
        soak(Classifier(options.bundle, threads=options.threads), files, options.soak)
        return
    memory(options.bundle, options.threads, files[:64])
    classifier = Classifier(options.bundle, threads=options.threads)
    size, alone = options.batch_size, Classifier(options.bundle, threads=1)
    sides: dict[str, Callable[[], Iterable[Prediction]]] = {
        "predict": lambda: [classifier.predict(file) for file in files],
        "predict_batch": lambda: classifier.predict_batch(files),
        "stream": lambda: list(classifier.stream(files)),
        "batches": lambda: classifier.predict_batch(files, size),
        "stream_batches": lambda: list(classifier.stream(files, size)),
        "stream_1_thread": lambda: list(alone.stream(files)),
        "eight_threads": lambda: eight_threads(classifier, files),
    }
    answers = {name: _rows(side()) for name, side in sides.items()}  # warms the file cache too
    figures = in_turn(
        options.rounds,
        **{
            name: lambda side=side: len(files) / wall_seconds(side)  # type: ignore[misc] # a default hides its type
            for name, side in sides.items()
        },
    )
    print(f"{classifier!r}, {len(files)} photos, batches of {size}")
    best = [max(each) for each in zip(*figures.values(), strict=True)]
    for name, values in figures.items():
        difference = np.abs(answers[name] - answers["predict"]).max()
        print(
            f"{name:<15} {spread(values)} photos/s, {median_ratio(values, figures['predict']):.2f} "
            f"of predict, {median_ratio(values, best):.2f} of the best; "
            f"probabilities differ by {difference:.1e} at most"
        )


def eight_threads(classifier: Classifier, files: list[Path]) -> list[Prediction]:
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(classifier.predict, files))


def memory(bundle: Path, threads: int | None, files: list[Path]) -> None:
    """Print what new processes have of their own, and with files that they map."""
    if not Path("/proc/self/smaps_rollup").exists():
        return
    Classifier(bundle, threads=threads).close()  # keeps the optimised graph, if it was not yet
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        steps = pool.apply(_memory_after, (bundle, threads, files))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        steps |= pool.apply(_memory_after_streaming, (bundle, files))
    weights = (bundle / "base.onnx").stat().st_size / 1e6 if bundle.is_dir() else float("nan")
    print(f"memory, MB, of its own and in all; base.onnx has {weights:.1f}")
    for name, (own, whole) in steps.items():
        print(f"after {name:<15} {own:6.1f} {whole:6.1f}")


def _memory_after(
    bundle: Path, threads: int | None, files: list[Path]
) -> dict[str, tuple[float, float]]:
    steps = {}
    classifier = Classifier(bundle, threads=threads)
    for file in files:
        classifier.predict(file)
    steps["predict"] = _memory_now()
    classifier.predict_batch(files)
    steps["predict_batch"] = _memory_now()
    list(classifier.stream(files))
    steps["stream"] = _memory_now()
    eight_threads(classifier, files)
    steps["eight_threads"] = _memory_now()
    return steps


def _memory_after_streaming(bundle: Path, files: list[Path]) -> dict[str, tuple[float, float]]:
    classifier = Classifier(bundle, threads=1)
    list(classifier.stream(files))
    return {"stream_1_thread": _memory_now()}


def _memory_now() -> tuple[float, float]:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kilobytes["Private_Dirty"] + kilobytes["Private_Clean"]
    return own / 1024, kilobytes["Rss"] / 1024


def soak(classifier: Classifier, files: list[Path], number: int) -> None:
    photos = itertools.islice(itertools.cycle(files), number)
    for done, _ in enumerate(classifier.stream(photos, on_error="yield"), 1):
        if done in (number // 10, number):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            print(f"{done} photos: peak {peak:.0f} MB", flush=True)


def _rows(predictions: Iterable[Prediction]) -> np.ndarray:
    return np.stack([found.probabilities for found in predictions])


if __name__ == "__main__":
    main()
