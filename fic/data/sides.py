"""Names of the sides of a split: a folder called `Training` or `test_set` is no class."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

Side = Literal["train", "val", "test"]

_WORDS: dict[Side, str] = {
    "train": "train|training|trn|trainval",
    "val": "val|vali|valid|validate|validation|dev|devel|development|eval|evaluation",
    "test": "test|testing|tst|holdout|heldout",
}
_MORE = r"(set|data|dataset|split|images?|imgs?|pictures?|photos?|dir|folder|samples?)"
_NAMES = {
    side: re.compile(rf"(seg|my|the|{_MORE})?({words}){_MORE}*\d*")
    for side, words in _WORDS.items()
}
_BETWEEN = re.compile(r"[\s_.\-]+")
_PARTS = re.compile(r"[\s_.\-()\[\]]+")
# `trainA` and `testA` as well, of which each side has several.
_WORD = {side: re.compile(rf"(?:{words})([a-d]?)") for side, words in _WORDS.items()}


def side_of(name: str) -> Side | None:
    """Return which side of a split a folder, or a cell of a table, is named after; None if none.

    Case and what separates the words do not matter: `Train`, `training_set`, `val-data`, `test2`.
    """
    joined = _BETWEEN.sub("", name.casefold())
    return next((side for side, names in _NAMES.items() if names.fullmatch(joined)), None)


def paired_sides(names: Iterable[str]) -> dict[str, Side]:
    """Return the side of each name that is like another one but for the word of its side.

    Such as `x_train` and `x_test`, `1-train` and `2-val`, `flowers (test)` and `flowers (train)`.
    """
    found: dict[tuple[str, ...], dict[str, Side]] = {}
    for name in names:
        for side, rest in _sides_and_rests(name):
            found.setdefault(rest, {})[name] = side
    return {
        name: side
        for sides in found.values()
        if len(set(sides.values())) > 1
        for name, side in sides.items()
    }


def _sides_and_rests(name: str) -> Iterator[tuple[Side, tuple[str, ...]]]:
    """Yield each side that a part of a name stands for, with its other parts."""
    parts = [part for part in _PARTS.split(name.casefold()) if part and not part.isdecimal()]
    for number, part in enumerate(parts):
        for side, word in _WORD.items():
            if found := word.fullmatch(part):
                yield side, (*parts[:number], found[1], *parts[number + 1 :])


def sides_among(names: Iterable[str]) -> dict[Side, str]:
    """Return the first name of each side that some of the names stand for."""
    names = list(names)
    pairs = paired_sides(names)
    found: dict[Side, str] = {}
    for name in names:
        if side := side_of(name) or pairs.get(name):
            found.setdefault(side, name)
    return found
