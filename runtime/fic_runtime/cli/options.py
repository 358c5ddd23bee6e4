"""Options that several commands share, and the pictures that their arguments name."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..devices import MAX_THREADS

if TYPE_CHECKING:
    from ..classifier import Classifier

    # argparse has no public name for it.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, the first argument of most commands."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or its zip archive"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add what the bundle runs on."""
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        help="auto takes CUDA where it works; cuda fails where it does not "
        "(default: $FIC_DEVICE or auto)",
    )
    parser.add_argument(
        "--allow-fallback",
        action="store_true",
        help="take the CPU where the device cannot be had, with a warning",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads for one prediction (default: $FIC_THREADS or all that this process may use)",
    )


def open_classifier(options: argparse.Namespace) -> "Classifier":
    """Open the bundle as the options of `add_bundle` and `add_device` say."""
    from ..classifier import Classifier

    return Classifier(
        options.bundle,
        head=getattr(options, "head", None),
        device=options.device,
        allow_fallback=options.allow_fallback,
        threads=options.threads,
    )


def positive(text: str) -> int:
    """Return the whole number of at least 1 that an argument stands for."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _threads(text: str) -> int:
    number = positive(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is past the limit of {MAX_THREADS}")
    return number


def named_pictures(arguments: Sequence[str]) -> Iterable[Path]:
    """Return the pictures that arguments name, and those that standard input names for `-`."""
    from ..picture_files import find_pictures

    if "-" not in arguments:
        return find_pictures(arguments)
    # As they come: what writes the paths may take its time.
    given = (
        line.rstrip("\r\n")
        for argument in arguments
        for line in (sys.stdin if argument == "-" else [argument])
    )
    return (path for each in given if each for path in find_pictures([each]))
