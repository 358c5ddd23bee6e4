"""What each score for unknown pictures costs beside the prediction that it belongs to.

python benchmarks/out_of_distribution.py BUNDLE PHOTO

The scores have numbers drawn from a seed, of the size that an export for this bundle writes.
"""

import argparse
from pathlib import Path

import numpy as np
from measuring import in_turn, median_ratio, spread, wall_seconds

from fic_export.fits.ood_scores import FITS, fit_softmax_regression
from fic_runtime.classifier import Classifier
from fic_runtime.heads.ood_scores import pooled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with Classifier(options.bundle, device="cpu") as classifier:
        pixels = options.photo.read_bytes()
        bottleneck = classifier.extract([pixels])
        probabilities = classifier.probabilities(bottleneck)
        width, classes = bottleneck.shape[-1], len(classifier.labels)
        random = np.random.default_rng(0)
        targets = np.repeat(np.arange(classes), max(1, 800 // classes))
        features = random.random((len(targets), width), np.float32)
        head = fit_softmax_regression(features, targets)
        scores = {name: fit(features, targets, head) for name, fit in FITS.items()}
        sides = {
            name: lambda score=score: wall_seconds(
                lambda: score.score(pooled(bottleneck), probabilities)
            )
            for name, score in scores.items()
        }
        figures = in_turn(
            options.rounds,
            predict=lambda: wall_seconds(lambda: classifier.predict(pixels)),
            **sides,
        )
    for name in scores:
        ratio = median_ratio(figures[name], figures["predict"])
        size = sum(array.size for array in scores[name].arrays().values()) * 2 / 1000
        print(f"{name:<24} {ratio:.2%} of predict, {spread(figures[name])} s, {size:.0f} kB")


if __name__ == "__main__":
    main()
