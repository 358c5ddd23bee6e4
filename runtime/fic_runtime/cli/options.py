"""Options that several commands share, and the pictures that their arguments name."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..devices import MAX_THREADS

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..preprocessing import ChannelOrder

    # argparse has no public name for it.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, the first argument of most commands."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=Path, help="folder or zip archive of the bundle"
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="PEM",
        help="public key that the bundle, and every head, must have been signed with; otherwise "
        "nothing is run and the exit code is 3. Needs `pip install 'fic-runtime[sign]'`",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the pictures; `named_pictures` finds them."""
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="image file or folder, or - to read paths from standard input, one per line",
    )


def add_device(
    parser: argparse.ArgumentParser, *, threads: str = "all available processors"
) -> None:
    """Add the device and the number of threads; `threads` describes the default."""
    add_device_alone(parser)
    parser.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        help=f"threads per prediction (default: $FIC_THREADS or {threads})",
    )


def add_device_alone(parser: argparse.ArgumentParser) -> None:
    """Add the device."""
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        help="device; auto uses CUDA if it works, cuda fails if it does not "
        "(default: $FIC_DEVICE or auto)",
    )
    parser.add_argument(
        "--allow-fallback",
        action="store_true",
        help="use the CPU, with a warning, if the device is unavailable",
    )


def open_classifier(
    options: argparse.Namespace, *, channel_order: "ChannelOrder" = "rgb"
) -> "Classifier":
    """Open the bundle as the options of `add_bundle` and `add_device` say."""
    from ..classifier import Classifier

    return Classifier(
        options.bundle,
        head=getattr(options, "head", None),
        device=options.device,
        allow_fallback=options.allow_fallback,
        threads=options.threads,
        channel_order=channel_order,
        public_key=options.public_key,
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


def several(one: Callable[[str], int]) -> Callable[[str], list[int]]:
    """Return what makes a list of an argument whose parts, between commas, `one` understands."""
    return lambda text: [one(part) for part in text.split(",")]


def seconds(text: str) -> float:
    """Return the number of seconds, 0 or more, that an argument stands for."""
    return _number(text, 86_400.0, "a number of seconds of at most a day")


def fraction(text: str) -> float:
    """Return the number from 0 to 1 that an argument stands for."""
    return _number(text, 1.0, "a number from 0 to 1")


def _number(text: str, most: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def thread_count(text: str) -> int:
    """Return the number of threads that an argument stands for."""
    number = positive(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is past the limit of {MAX_THREADS}")
    return number


def named_pictures(arguments: Sequence[str]) -> Iterable[Path]:
    """Return the pictures that arguments name, and those that standard input names for `-`."""
    from ..images.picture_files import find_pictures

    if "-" not in arguments:
        return find_pictures(arguments)
    # As they come: what writes the paths may take its time.
    given = (
        line.rstrip("\r\n")
        for argument in arguments
        for line in (_standard_input() if argument == "-" else [argument])
    )
    return (path for name in given if name for path in find_pictures([name]))


def _standard_input() -> Iterator[str]:
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # no file, as in a notebook
        yield from sys.stdin
        return
    # Not by sys.stdin itself: Python ends with a fatal error where a thread still waits in it.
    rest = b""
    while piece := os.read(descriptor, 65_536):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode(sys.stdin.encoding, "surrogateescape") for line in lines)
    yield rest.decode(sys.stdin.encoding, "surrogateescape")
