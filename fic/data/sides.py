"""Names of the sides of a split: a folder called `Training` or `test_set` is no class."""

import re
from collections.abc import Iterable
from typing import Literal

Side = Literal["train", "val", "test"]

_WORDS: dict[Side, str] = {
    "train": "train|training|trn",
    "val": "val|vali|valid|validate|validation|dev|devel|development|eval|evaluation",
    "test": "test|testing|tst|holdout",
}
_MORE = r"(set|data|dataset|split|images?|imgs?|pictures?|photos?|dir|folder|samples?)"
_NAMES = {
    side: re.compile(rf"(seg|my|the|{_MORE})?({words}){_MORE}*\d*")
    for side, words in _WORDS.items()
}
_BETWEEN = re.compile(r"[\s_.\-]+")


def side_of(name: str) -> Side | None:
    """Return which side of a split a folder, or a cell of a table, is named after; None if none.

    Case and what separates the words do not matter: `Train`, `training_set`, `val-data`, `test2`.
    """
    joined = _BETWEEN.sub("", name.casefold())
    return next((side for side, names in _NAMES.items() if names.fullmatch(joined)), None)


def sides_among(names: Iterable[str]) -> dict[Side, str]:
    """Return the first name of each side that some of the names stand for."""
    found: dict[Side, str] = {}
    for name in names:
        if side := side_of(name):
            found.setdefault(side, name)
    return found
