"""What an audit found, for people and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bottlenecks.cached import CacheUse
from .cached_pictures import Side
from .duplicates import DuplicateGroup
from .file_checks import FileProblem
from .label_errors import Confusion
from .outliers import Outlier

RARE = 0.1
"""A class with less than this share of the largest one's pictures is rare."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A picture, and how much speaks against its label.

    Attributes:
        path: the file, as the source names it.
        label: its label.
        suggested: the label that others like it have; its own where nothing speaks against it.
        score: from 0 to 1, 1 for the most suspect.
        likely_wrong: whether confident learning counts it as another class's.
        side: the side of the split that it is on.
    """

    path: Path
    label: str
    suggested: str
    score: float
    likely_wrong: bool
    side: Side


@dataclass(frozen=True, kw_only=True, repr=False)  # of a thousand pictures
class Audit:
    """What an audit found.

    Attributes:
        base: name of the base whose bottlenecks were looked at.
        counts: pictures of each class.
        images: pictures on each side of the split.
        suspects: all readable pictures, the most suspect label first.
        duplicates: groups of pictures that show the same, those on both sides of the split first.
        outliers: pictures like no other, the strangest first.
        confusions: pairs of classes that are taken for each other, the most confused first.
        files: files that are not what they seem.
        agreement: share of the labels that classifiers agree with that did not see the picture.
        cache: bottlenecks found in the cache, and extracted.
        seconds: how long it took.
        use: use of the cache; the files that were skipped or left out, which `files` names too.
    """

    base: str
    counts: Mapping[str, int]
    images: Mapping[Side, int]
    suspects: Sequence[Suspect]
    duplicates: Sequence[DuplicateGroup]
    outliers: Sequence[Outlier]
    confusions: Sequence[Confusion]
    files: Sequence[FileProblem]
    agreement: float
    cache: Mapping[str, int]
    seconds: float
    use: CacheUse = field(default=CacheUse(), repr=False)

    def __repr__(self) -> str:
        found = {
            "likely wrong": self.likely_wrong, "duplicates": self.duplicates,
            "leaks": self.leaks, "outliers": self.outliers, "files": self.files,
        }  # fmt: skip
        counts = ", ".join(f"{name}: {len(values)}" for name, values in found.items())
        return f"<Audit of {len(self.suspects)} pictures of {len(self.counts)} classes; {counts}>"

    @property
    def likely_wrong(self) -> list[Suspect]:
        """The pictures whose label is likely wrong."""
        return [suspect for suspect in self.suspects if suspect.likely_wrong]

    @property
    def leaks(self) -> list[DuplicateGroup]:
        """The groups of duplicates that training and validation share."""
        return [group for group in self.duplicates if group.leaks]

    @property
    def rare(self) -> list[str]:
        """The classes with few pictures beside the largest one."""
        largest = max(self.counts.values(), default=0)
        return [label for label, count in self.counts.items() if count < RARE * largest]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        largest, smallest = max(self.counts.values()), min(self.counts.values())
        return {
            "suspects": [
                {
                    "path": str(each.path),
                    "label": each.label,
                    "suggested": each.suggested,
                    "score": round(each.score, 6),
                }
                for each in self.suspects
            ],
            "likely_wrong": [str(each.path) for each in self.likely_wrong],
            "duplicates": [[str(path) for path in group.paths] for group in self.duplicates],
            "duplicate_kinds": [group.kind for group in self.duplicates],
            "leakage": [[str(path) for path in group.paths] for group in self.leaks],
            "outliers": [
                {"path": str(each.path), "label": each.label, "score": round(each.score, 3)}
                for each in self.outliers
            ],
            "confused_classes": [
                {
                    "classes": list(each.classes),
                    "images": each.count,
                    "share": round(each.share, 6),
                    "merge": each.merge,
                }
                for each in self.confusions
            ],
            "classes": dict(self.counts),
            "imbalance": {
                "largest": largest,
                "smallest": smallest,
                "ratio": round(largest / max(1, smallest), 2),
                "rare": self.rare,
            },
            "files": [
                {"path": str(each.path), "problem": each.problem, "reason": each.reason}
                for each in self.files
            ],
            "images": dict(self.images),
            "base": self.base,
            "agreement": round(self.agreement, 6),
            "cache": dict(self.cache),
            "seconds": round(self.seconds, 3),
        }
