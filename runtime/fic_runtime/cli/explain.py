"""`fic-runtime explain`."""

import argparse
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, OutputError, printable
from ..results import check_apart, check_writable, real_path
from .counting import Count
from .options import (
    add_bundle,
    add_device,
    add_images,
    named_folders,
    named_pictures,
    open_classifier,
    some_path,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from .options import Commands

_SUFFIX = ".png"


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="draw heat maps of a label",
        description="Draw a heat map of the label on each picture; red is the strongest evidence. "
        "The bundle must have been exported with `fic export --with-feature-map`. Unreadable "
        "pictures are reported and left out, and the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    add_images(parser)
    parser.add_argument(
        "--out",
        type=some_path,
        required=True,
        metavar="DIR|FILE.png",
        help="output folder, or a .png file for one picture",
    )
    parser.add_argument(
        "--label", metavar="NAME", help="label to explain (default: the most probable)"
    )
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    from .overlays import check_overlay, doubt_of, write_overlay

    check_apart(options.out, named_folders(options.images))
    if _is_file(options.out):
        check_overlay(options.out)
    else:
        check_writable(options.out)
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
            label = printable(explanation.label)
            found = f"{label} {explanation.probability:.4f}{doubt_of(explanation)}"
            print(f"{printable(str(path))}\t{found}\t{printable(str(out))}")
    count.report(pictures, verbose=options.verbose)
    return 1 if failures else 0


def _file_for(path: Path, target: Path, taken: "Collection[Path]") -> Path:
    from .overlays import overlay_file

    if _is_file(target):
        if taken:  # pictures from standard input are not known beforehand
            raise _one_file_for_many(target)
        out = target
    else:
        if real_path(path.parent) == real_path(target):
            raise OutputError(f"{target}: is where the pictures are; give a folder of its own")
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be made a folder ({error.strerror}); give another path"
            ) from error
        out = overlay_file(target, path, taken)
    if out.exists() and path.exists() and out.samefile(path):
        raise OutputError(f"{out}: is the picture itself; give another path")
    return out


def _is_file(target: Path) -> bool:
    return target.suffix.lower() == _SUFFIX and not target.is_dir()


def _one_file_for_many(target: Path) -> OutputError:
    return OutputError(f"{target}: is one file for several pictures; give a folder")
