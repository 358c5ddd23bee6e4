"""Bases side by side, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..bottlenecks.cached import CacheUse


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A base on these pictures and this machine.

    Attributes:
        base: its name, as it was given.
        accuracy: cross-validated, of the default head.
        standard_error: of that accuracy, over the folds.
        features: width of its bottleneck.
        images_per_second: pictures that are decoded and computed, from files, in batches.
        milliseconds: of one picture in the runtime, from a file, the median.
        bundle_bytes: of base and head as a bundle, about.
        chance: that the most accurate base is no better, by McNemar's test; 1 for that one.
        alike: whether it cannot be told from the most accurate one.
        pareto: whether no other is both more accurate and quicker.
    """

    base: str
    accuracy: float
    standard_error: float
    features: int
    images_per_second: float
    milliseconds: float
    bundle_bytes: int
    chance: float
    alike: bool
    pareto: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """Bases side by side.

    Attributes:
        pictures: how many there are.
        classes: how many there are.
        folds: how many.
        rows: the bases, the most accurate first.
        recommended: the quickest of those that cannot be told from the most accurate one.
        reason: why, in a sentence.
        use: use of the cache; the files that were skipped or left out.
    """

    pictures: int
    classes: int
    folds: int
    rows: Sequence[Compared]
    recommended: str
    reason: str
    use: CacheUse = field(default=CacheUse(), repr=False)

    def __repr__(self) -> str:
        rows = ", ".join(f"{row.base} {row.accuracy:.1%}" for row in self.rows)
        return f"<Comparison: {rows}; {self.reason}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; of the files, `use.files_record()` does so."""
        return {
            "pictures": self.pictures,
            "classes": self.classes,
            "folds": self.folds,
            "rows": [asdict(row) for row in self.rows],
            "recommended": self.recommended,
            "reason": self.reason,
        }
