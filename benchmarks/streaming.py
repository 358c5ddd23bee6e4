"""Many photos one by one, in batches, and as a stream, by `Classifier`.

    python benchmarks/streaming.py BUNDLE PHOTOS [--images 1000] [--rounds 3] [--threads 1]
    python benchmarks/streaming.py BUNDLE PHOTOS --soak 20000

All start at the files. `predict` decodes and computes each photo in turn, `predict_batch` decodes a
batch and computes it, `stream` works on several photos at once,
the last time with one thread for each instead of all. The answers are compared too: how
far are those of batches from those of single photos? `--soak` streams so many photos, in turn, and
prints the peak of memory after a tenth of them and after all.
"""

import argparse
import itertools
import resource
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from measuring import in_turn, median_ratio, some_photos, spread, wall_seconds

from fic_runtime import Classifier, Prediction


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
    classifier = Classifier(options.bundle, threads=options.threads)
    if options.soak:
        soak(classifier, files, options.soak)
        return
    size, alone = options.batch_size, Classifier(options.bundle, threads=1)
    sides = {
        "predict": lambda: [classifier.predict(file) for file in files],
        "predict_batch": lambda: classifier.predict_batch(files, size),
        "stream": lambda: list(classifier.stream(files)),
        "stream_batches": lambda: list(classifier.stream(files, size)),
        "stream_1_thread": lambda: list(alone.stream(files)),
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
    for name, values in figures.items():
        difference = np.abs(answers[name] - answers["predict"]).max()
        print(
            f"{name:<15} {spread(values)} photos/s, {median_ratio(values, figures['predict']):.2f} "
            f"of predict; probabilities differ by {difference:.1e} at most"
        )


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
