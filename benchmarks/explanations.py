"""Do explanations point at what counts, and does a bundle that can explain cost more?

    python benchmarks/explanations.py RUN [--pictures 100] [--rounds 30]

The run is exported with and without its feature map, and both predict in turn. Then the fifth of
each validation picture that is hottest is painted over with the picture's mean colour, and in turn
the coldest fifth, and a fifth at random in blocks as large as a location of the map: the more a
part counts, the more the probability of the label falls ("deletion" of Petsiuk et al. 2018,
https://arxiv.org/abs/1806.07421, at one share).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import cpu_seconds_at_full_load, in_turn, median_ratio, spread

from fic.exporting import export_run
from fic.runs import Run
from fic_runtime import Classifier
from fic_runtime.images import load_image

_SHARE = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    export_run(options.run, out=work / "plain")
    export_run(options.run, out=work / "explaining", with_feature_map=True)
    rows = Run(options.run).validation()
    files = [row.path for row in rows if row.path.is_file()]
    files = files[:: max(1, len(files) // options.pictures)][: options.pictures]
    plain, explaining = (Classifier(work / name, threads=1) for name in ("plain", "explaining"))
    compare_cost(plain, explaining, files, options.rounds)
    compare_parts(explaining, files)


def compare_cost(plain: Classifier, explaining: Classifier, files: list[Path], rounds: int) -> None:
    geometry = plain.manifest.preprocessing.geometry
    pixels = [load_image(file, geometry)[None] for file in files]
    same = all(np.array_equal(plain.run(p)[1], explaining.run(p)[1]) for p in pixels)

    def predict(classifier: Classifier) -> float:
        return cpu_seconds_at_full_load(classifier.run, pixels[:16], 1) / len(pixels[:16])

    figures = in_turn(rounds, plain=lambda: predict(plain), explaining=lambda: predict(explaining))
    print(f"probabilities of {len(files)} pictures the same to the bit: {same}")
    for name, seconds in figures.items():
        print(f"{name:<11} {spread([1e3 * s for s in seconds])} ms a picture")
    print(f"explaining / plain  {median_ratio(figures['explaining'], figures['plain']):.3f}")


def compare_parts(classifier: Classifier, files: list[Path]) -> None:
    geometry = classifier.manifest.preprocessing.geometry
    random = np.random.default_rng(0)
    falls: dict[str, list[float]] = {"hottest": [], "random": [], "coldest": []}
    for file in files:
        pixels = load_image(file, geometry)
        found = classifier.explain(pixels)
        heat = found.heat_over(*pixels.shape[:2])
        order = {
            "hottest": -heat,
            "random": blocks(random, found.heat.shape, pixels.shape[:2]),
            "coldest": heat,
        }
        for name, values in order.items():
            covered = pixels.copy()
            covered[values <= np.quantile(values, _SHARE)] = pixels.mean(axis=(0, 1))
            left = classifier.predict(covered).probabilities[found.index]
            falls[name].append(found.probability - float(left))
    print(f"fall of the probability with {_SHARE:.0%} of {len(files)} pictures painted over:")
    for name, values in falls.items():
        mean, error = np.mean(values), np.std(values) / np.sqrt(len(values))
        print(f"{name:<8} {mean:.3f} +- {error:.3f}")
    more = np.mean(np.array(falls["hottest"]) > np.array(falls["coldest"]))
    print(f"hottest falls more than coldest in {more:.0%} of the pictures")


def blocks(random: np.random.Generator, shape: Any, size: Any) -> Any:
    """Return a random number for each location, spread over its pixels."""
    numbers = random.random(shape)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, shape, strict=True))
    return numbers[rows][:, columns]


if __name__ == "__main__":
    main()
