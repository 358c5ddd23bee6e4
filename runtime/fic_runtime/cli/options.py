"""Options that several commands share, and the pictures that their arguments name."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..devices import MAX_THREADS
from ..errors import ImageError

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..images.picture_files import FileUse
    from ..preprocessing import ChannelOrder

    # argparse has no public name for it.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, the first argument of most commands."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=some_path, help="folder or zip archive of the bundle"
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
        type=not_empty,
        help="image file or folder, or - to read paths from standard input, one per line",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="list every file that was left out"
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


def some_path(text: str) -> Path:
    """Return the path that an argument stands for; an empty one is none, and not this folder."""
    return Path(not_empty(text))


def not_empty(text: str) -> str:
    """Return an argument that says something."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty (is a variable of the shell unset?)")
    return text


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


class NamedPictures(Protocol):
    """Pictures that arguments name; `files` says what became of those found so far."""

    @property
    def files(self) -> "FileUse":
        """What became of the files that were found."""

    def __iter__(self) -> Iterator[Path]:
        """Yield the pictures."""


def named_pictures(arguments: Sequence[str]) -> NamedPictures:
    """Return the pictures that arguments name, and those that standard input names for `-`.

    Raises:
        ImageError: see `list_pictures`.
    """
    from ..images.picture_files import list_pictures

    return _ComingPictures(arguments) if "-" in arguments else list_pictures(arguments)


class _ComingPictures:
    """Pictures that standard input names, as they come: what writes them may take its time."""

    def __init__(self, arguments: Sequence[str]) -> None:
        from ..images.picture_files import FileUse

        self._arguments = arguments
        self.files = FileUse()

    def __iter__(self) -> Iterator[Path]:
        from ..images.picture_files import list_pictures

        for argument in self._arguments:
            for line in _standard_input() if argument == "-" else [argument]:
                name = line.rstrip("\r\n")
                if not name:
                    continue
                try:
                    found = list_pictures([name])
                except ImageError:  # which reading says at its place
                    yield Path(name)
                else:
                    self.files += found.files
                    yield from found


def named_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders among the arguments, in which no output belongs."""
    return [Path(argument) for argument in arguments if argument and os.path.isdir(argument)]  # noqa: PTH112  # names that no path can have


def _standard_input() -> Iterator[str]:
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # no file, as in a notebook
        yield from sys.stdin
        return
    # Not by sys.stdin itself: Python ends with a fatal error where a thread still waits in it.
    rest = b""
    while piece := os.read(descriptor, 65_536):
        if b"\0" in piece:
            raise ImageError(
                "standard input: holds bytes and not paths, one per line; name the picture file "
                "instead of -, and separate paths by line breaks"
            )
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_path_of, lines)
    yield _path_of(rest)


def _path_of(line: bytes) -> str:
    # Any name that the file system allows; on Windows programs print in the console's encoding.
    if sys.platform == "win32":
        return line.decode(sys.stdin.encoding, "replace")
    return os.fsdecode(line)
