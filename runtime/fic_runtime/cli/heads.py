"""The option `--head`: other heads than the bundle's own."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .options import not_empty, some_path

if TYPE_CHECKING:
    from ..multi_classifier import MultiClassifier

_HELP = "bundle whose head replaces the bundle's own; it must have been exported for the same base"


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add one head to a command."""
    parser.add_argument("--head", type=some_path, metavar="HEAD", help=_HELP)


def add_heads(parser: argparse.ArgumentParser) -> None:
    """Add any number of heads to a command; the base runs once per picture for all of them."""
    parser.add_argument(
        "--head",
        dest="heads",
        action="append",
        default=[],
        type=not_empty,
        metavar="[NAME=]HEAD",
        help=f"{_HELP}; repeat it, or give a NAME, for answers from several heads",
    )


def answer_by_head(options: argparse.Namespace) -> bool:
    """Return whether the answers tell heads apart; otherwise `options.head` is the only one."""
    heads = [_named(text) for text in options.heads]
    options.head = heads[0][1] if heads else None
    return len(heads) > 1 or any(name for name, _ in heads)


def paths_of_heads(options: argparse.Namespace) -> list[Path]:
    """Return where the heads of `add_heads` are."""
    return [path for _, path in map(_named, options.heads)]


def open_heads(options: argparse.Namespace) -> "MultiClassifier":
    """Open the heads of `add_heads` on the base of the bundle."""
    from ..multi_classifier import MultiClassifier

    classifier = MultiClassifier(
        options.bundle,
        device=options.device,
        allow_fallback=options.allow_fallback,
        threads=options.threads,
        public_key=options.public_key,
    )
    for text in options.heads:
        name, path = _named(text)
        classifier.attach(path, name)
    return classifier


def _named(text: str) -> tuple[str | None, Path]:
    # A path may hold a `=`, and then it is not a name.
    name, sign, path = text.partition("=")
    if sign and name and path and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)
