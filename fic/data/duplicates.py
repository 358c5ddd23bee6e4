"""Pictures that a data set holds twice: with two labels, on both sides, or in one class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dataset import Dataset

_NAMED = 3  # pairs in one sentence

Copies = tuple[Path, ...]
"""Files with one content."""


@dataclass(frozen=True)
class Duplicates:
    """Pictures with the same content, byte by byte; each content is listed once, the worst way.

    Attributes:
        two_classes: in more than one class, so that one label or the other is wrong.
        both_sides: in training and validation, so that the validation is no test.
        one_class: more than once in one class and on one side, so that they count more.
    """

    two_classes: tuple[Copies, ...] = ()
    both_sides: tuple[Copies, ...] = ()
    one_class: tuple[Copies, ...] = ()

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each kind that there is, with the number and a few names."""
        if found := self.two_classes:
            yield (
                f"same picture in two classes: {_named(found)}; a picture has one label, so remove "
                "the wrong copies"
            )
        if found := self.both_sides:
            yield (
                f"same picture in training and validation: {_named(found)}; the validation figures "
                "are too good, so remove one of the copies"
            )
        if found := self.one_class:
            yield f"same picture twice in one class: {_named(found)}; it counts twice"

    def to_dict(self) -> dict[str, list[list[str]]]:
        """Return all of them for JSON: lists of files with one content, by the kind."""
        return {
            name: [[str(path) for path in copies] for copies in found]
            for name, found in (
                ("two_classes", self.two_classes),
                ("both_sides", self.both_sides),
                ("one_class", self.one_class),
            )
        }


def find_duplicates(train: Dataset, val: Dataset, digests: Mapping[Path, bytes]) -> Duplicates:
    """Find the pictures with the same content in two data sets that know the same classes."""
    places = [
        (digests[path], path, target, side)
        for side, dataset in enumerate((train, val))
        for path, target in zip(dataset.paths, dataset.targets, strict=True)
    ]
    first: dict[bytes, int] = {}
    copies: dict[bytes, list[int]] = {}
    for index, (digest, *_) in enumerate(places):
        if (before := first.setdefault(digest, index)) != index:
            copies.setdefault(digest, [before]).append(index)
    kinds: tuple[list[Copies], list[Copies], list[Copies]] = ([], [], [])
    for indices in copies.values():
        own = [places[index] for index in indices]
        classes, sides = ({place[column] for place in own} for column in (2, 3))
        kind = 0 if len(classes) > 1 else 1 if len(sides) > 1 else 2
        kinds[kind].append(tuple(path for _, path, _, _ in own))
    return Duplicates(*map(tuple, kinds))


def _named(found: Sequence[Copies]) -> str:
    pairs = [" = ".join(map(str, copies[:2])) for copies in found[:_NAMED]]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} ({', '.join(pairs)}{more})"
