"""The option `--head`: other heads than the bundle's own."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..multi_classifier import MultiClassifier

_WHAT = (
    "another bundle for the same base, whose head is taken instead of the bundle's own: what "
    "`fic export --head-only` wrote, or a whole bundle"
)


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add one head to a command."""
    parser.add_argument("--head", type=Path, metavar="HEAD", help=_WHAT)


def add_heads(parser: argparse.ArgumentParser) -> None:
    """Add any number of heads to a command; the bundle's base then looks at a picture once."""
    parser.add_argument(
        "--head",
        dest="heads",
        action="append",
        default=[],
        metavar="[NAME=]HEAD",
        help=f"{_WHAT}; given several times, or with a NAME, each answer says which head gave it",
    )


def answer_by_head(options: argparse.Namespace) -> bool:
    """Return whether the answers tell heads apart; otherwise `options.head` is the only one."""
    heads = [_named(text) for text in options.heads]
    options.head = heads[0][1] if heads else None
    return len(heads) > 1 or any(name for name, _ in heads)


def places_of_heads(options: argparse.Namespace) -> list[Path]:
    """Return where the heads of `add_heads` are."""
    return [place for _, place in map(_named, options.heads)]


def open_heads(options: argparse.Namespace) -> "MultiClassifier":
    """Open the heads of `add_heads` on the base of the bundle."""
    from ..multi_classifier import MultiClassifier

    classifier = MultiClassifier(
        options.bundle,
        device=options.device,
        allow_fallback=options.allow_fallback,
        threads=options.threads,
    )
    for text in options.heads:
        name, place = _named(text)
        classifier.attach(place, name)
    return classifier


def _named(text: str) -> tuple[str | None, Path]:
    # A path may hold a `=`, and then it is no name.
    name, sign, place = text.partition("=")
    if sign and name and place and not Path(text).exists():
        return name, Path(place)
    return None, Path(text)
