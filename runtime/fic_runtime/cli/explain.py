"""`fic-runtime explain`."""

import argparse
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, OutputError
from .counting import Count
from .options import add_bundle, add_device, add_images, named_pictures, open_classifier

if TYPE_CHECKING:
    from collections.abc import Collection

    from .options import Commands

_SUFFIX = ".png"


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="show where in pictures a label is seen",
        description="Write each picture with a heat map on it, which shows where the label is "
        "seen: the redder, the more a place speaks for it. The bundle must have been exported with "
        "`fic export --with-feature-map`. A picture that cannot be read is named and left out, and "
        "the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    add_images(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder, which gets FILE.png for each FILE, or a file ending in .png for one",
    )
    parser.add_argument(
        "--label", metavar="NAME", help="where this label is seen (default: the most probable)"
    )
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    from .overlays import doubt_of, write_overlay

    failures = 0
    count = Count(answers=True)
    taken: set[Path] = set()
    with open_classifier(options) as classifier:
        classifier.check_explainable(options.label)
        pictures = named_pictures(options.images)
        if isinstance(pictures, Sized) and len(pictures) > 1 and _is_file(options.out):
            raise _one_file_for_many(options.out)
        for path in count.of(pictures):
            out = _file_for(path, options.out, taken)
            try:
                explanation = classifier.explain(path, options.label)
                write_overlay(out, path, explanation)
            except ImageError as error:
                failures += 1
                count.complain(error)
                continue
            taken.add(out)
            found = f"{explanation.label} {explanation.probability:.4f}{doubt_of(explanation)}"
            print(f"{path}\t{found}\t{out}")
    return 1 if failures else 0


def _file_for(path: Path, place: Path, taken: "Collection[Path]") -> Path:
    from .overlays import overlay_file

    if _is_file(place):
        if taken:  # pictures from standard input are not known beforehand
            raise _one_file_for_many(place)
        out = place
    else:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{place}: cannot be made a folder ({error.strerror}); give another place"
            ) from error
        out = overlay_file(place, path, taken)
    if out.exists() and path.exists() and out.samefile(path):
        raise OutputError(f"{out}: is the picture itself; give another place")
    return out


def _is_file(place: Path) -> bool:
    return place.suffix.lower() == _SUFFIX and not place.is_dir()


def _one_file_for_many(place: Path) -> OutputError:
    return OutputError(f"{place}: is one file for several pictures; give a folder")
