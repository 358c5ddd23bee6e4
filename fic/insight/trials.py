"""Recipes that are tried, what the folds say of them, and which one is chosen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..bottlenecks.cached import CacheUse
from ..runs import Run
from .learning_curve import LearningCurve


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe that is tried.

    Attributes:
        head: as `TrainingOptions.head`.
        weight_decay: as `TrainingOptions.weight_decay`.
        units: width of its hidden layer, 0 for a linear head.
    """

    head: str
    weight_decay: float
    units: int = 0


CANDIDATES: tuple[Candidate, ...] = (
    *(
        Candidate(head="linear", weight_decay=decay)
        for decay in (0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
    ),
    *(Candidate(head="mlp:64", weight_decay=decay, units=64) for decay in (0.01, 0.05)),
)
"""What is tried."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A candidate with what the folds say.

    Attributes:
        candidate: the recipe.
        accuracy: mean of the folds, each measured on pictures that neither trained nor stopped it.
        standard_error: of that mean.
        folds: accuracy in each fold.
    """

    candidate: Candidate
    accuracy: float
    standard_error: float
    folds: Sequence[float]


@dataclass(frozen=True, kw_only=True, repr=False)
class Tuning:
    """What was tried and chosen.

    Attributes:
        base: name of the base.
        pictures: how many there are.
        classes: how many there are.
        tried: the candidates, the most accurate first.
        chosen: the simplest of those within one standard error of the best.
        curve: the learning curve of the chosen one, if it was asked for.
        seconds: that it took without extraction and the final training.
        run: trained on the chosen one.
        use: use of the cache; the files that were skipped or left out.
    """

    base: str
    pictures: int
    classes: int
    tried: Sequence[Tried]
    chosen: Tried
    curve: LearningCurve | None
    seconds: float
    run: Run | None = None
    use: CacheUse = field(default=CacheUse(), repr=False)

    def __repr__(self) -> str:
        chosen = self.chosen.candidate
        curve = "" if self.curve is None else f"; {self.curve.sentence()}"
        return (
            f"<Tuning: {chosen.head} with weight decay {chosen.weight_decay:g} chosen of "
            f"{len(self.tried)}, accuracy {self.chosen.accuracy:.1%} ± "
            f"{self.chosen.standard_error:.1%}{curve}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, as `run.json` has it under `tuning`."""
        return {
            "base": self.base,
            "pictures": self.pictures,
            "classes": self.classes,
            "folds": len(self.chosen.folds),
            "rule": "the simplest within one standard error of the best",
            "chosen": _plain(self.chosen),
            "tried": [_plain(each) for each in self.tried],
            "learning_curve": None if self.curve is None else self.curve.to_dict(),
            "seconds": self.seconds,
        }


def choose(tried: Sequence[Tried]) -> Tried:
    """Return the simplest of those within one standard error of the best."""
    best = max(tried, key=lambda each: each.accuracy)
    good = [each for each in tried if each.accuracy >= best.accuracy - best.standard_error - 1e-12]
    return min(good, key=lambda each: (each.candidate.units, -each.candidate.weight_decay))


def _plain(tried: Tried) -> dict[str, Any]:
    values = asdict(tried)
    candidate = values.pop("candidate")
    return {"head": candidate["head"], "weight_decay": candidate["weight_decay"], **values}
