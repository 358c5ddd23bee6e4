"""The default head against a logistic regression whose strength is tuned by cross-validation.

    python benchmarks/default_head.py PHOTOS [--bases NAME...] [--splits 8] [--weight-decay 0.05...]

Over the same splits, which are those of `fic train --seed 0`, `1`, …: the default head as
`fic train` leaves it, the same after its last epoch (so that no decision was made by the validation
pictures), and scikit-learn's logistic regression on raw, standardized and half-way standardized
bottlenecks, with the best of eleven strengths in five folds of the training pictures.
Needs scikit-learn.
"""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import prepare
from fic.data import Source, read_pictures
from fic.heads.building import Statistics, scaled
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.progress import Silence
from fic.training.arrays import ArrayData, fit_head
from fic.training.head import probabilities

BASES = ("efficientnet_lite0", "mobilenet_v2_0.35", "mobilenet_0.75")
STRENGTHS = np.logspace(-5, 0, 11)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--bases", nargs="+", default=BASES)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--weight-decay", type=float, nargs="*", default=[])
    parser.add_argument("--bottleneck-dir", type=Path, default=Path("bottlenecks"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of fits that have not converged to the last digit

    accuracies: dict[str, list[float]] = {}
    for name in options.bases:
        for seed in range(options.splits):
            train, val = split(options.photos, name, options.bottleneck_dir, seed)
            for method, accuracy in measured(train, val, seed, options.weight_decay).items():
                accuracies.setdefault(method, []).append(accuracy)
    print(f"{'':<40}{''.join(f'{name:>20}' for name in options.bases)}{'mean':>8}")
    for method, found in accuracies.items():
        means = np.reshape(found, (len(options.bases), -1)).mean(axis=1)
        print(f"{method:<40}{''.join(f'{mean:>20.4f}' for mean in means)}{means.mean():>8.4f}")


def split(photos: Path, base: str, folder: Path, seed: int) -> tuple[ArrayData, ArrayData]:
    """Return the bottlenecks of training and validation pictures."""
    cache = CacheOptions(bottleneck_dir=folder)
    pictures = read_pictures(
        Source(data=photos), memo=cache.memo, seed=seed, on_error="skip", progress=Silence()
    )
    frozen = FrozenBase(BaseOptions(base_model=base), folder)
    train, val, _ = prepare(pictures, frozen, cache, Silence())
    try:
        return tuple(
            ArrayData(np.concatenate(list(part.plain())), part.targets, part.labels)
            for part in (train, val)
        )
    finally:
        train.close()


def measured(train: ArrayData, val: ArrayData, seed: int, decays: list[float]) -> dict[str, float]:
    """Return the validation accuracy of each method."""
    defaults = TrainingOptions(seed=seed)
    found = {}
    for decay in (defaults.weight_decay, *decays):
        options = replace(defaults, weight_decay=decay)
        for name, judge in (("best epoch", val), ("last epoch", train)):
            head = fit_head(train, judge, options).model
            right = probabilities(head, val).argmax(axis=1) == val.targets
            found[f"default head, decay {decay:g}, {name}"] = float(right.mean())
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, step, unit in (
        ("raw", FunctionTransformer(), 100),
        ("standardized", StandardScaler(), 1),
        ("half-way standardized", HalfWay(), 1),
    ):
        pipeline = make_pipeline(step, LogisticRegression(max_iter=300, tol=1e-3))
        grid = {"logisticregression__C": unit * STRENGTHS}
        search = GridSearchCV(pipeline, grid, cv=folds).fit(train.bottlenecks, train.targets)
        accuracy = search.score(val.bottlenecks, val.targets)
        found[f"logistic regression, {name}"] = float(accuracy)
    return found


class HalfWay(StandardScaler):  # type: ignore[misc] # no types
    """Standardizes as fic's head does."""

    def fit(self, features: NDArray[Any], targets: Any = None, sample_weight: Any = None) -> Any:
        """Learn mean and deviation of each feature."""
        super().fit(features, targets, sample_weight)
        scale, mean, variance = scaled(Statistics(mean=self.mean_, variance=self.var_))
        self.mean_, self.scale_ = mean / scale, np.sqrt(variance) / scale
        return self


if __name__ == "__main__":
    main()
