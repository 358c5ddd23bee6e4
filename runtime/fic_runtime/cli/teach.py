"""`fic-runtime teach` and `fic-runtime forget`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BundleError, ImageError, printable
from ..results import check_apart
from .counting import Count
from .heads import add_head
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
    from ..classifier import Classifier
    from .options import Commands, NamedPictures


def add_to(commands: "Commands") -> None:
    """Add both commands to the parser."""
    teach = commands.add_parser(
        "teach",
        help="add a label, or more pictures of one, to a head",
        description="Add a label, or more pictures of an existing one, and write the new head. The "
        "bundle must have been exported with `fic export --teachable`; it is not changed. "
        "Unreadable pictures are reported and left out, and the exit code is 1.",
        epilog="example: fic-runtime teach bundle tulips tulips/*.jpg --out head, and then "
        "fic-runtime predict bundle photo.jpg --head head",
    )
    teach.set_defaults(command=_teach)
    _add_label(teach)
    add_images(teach)
    _add_output(teach)
    forget = commands.add_parser(
        "forget",
        help="remove a label from a head",
        description="Remove a label and write the new head. The bundle must have been exported "
        "with `fic export --teachable`; it is not changed.",
    )
    forget.set_defaults(command=_forget)
    _add_label(forget)
    _add_output(forget)


def _add_label(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("label", metavar="LABEL", help="label, the name of a class")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=some_path,
        required=True,
        metavar="HEAD",
        help="output folder, or a .zip archive, of the new head; may be that of --head",
    )
    add_head(parser)
    add_device(parser)


def _teach(options: argparse.Namespace) -> int:
    check_apart(options.out, named_folders(options.images))
    _check_output(options)
    count = Count(answers=False)
    failures: list[ImageError] = []
    with open_classifier(options) as classifier:
        pictures = named_pictures(options.images)
        try:
            classifier.teach(options.label, _readable(classifier, pictures, count, failures))
        except ValueError as error:  # of a label
            raise BundleError(f"{error}; give another one") from None
        count.report(pictures, verbose=options.verbose)
        return _save(classifier, options, failed=bool(failures))


def _readable(
    classifier: "Classifier",
    pictures: "NamedPictures",
    count: Count,
    failures: list[ImageError],
) -> Iterator[Path]:
    from ..images import read_image

    geometry = classifier.manifest.preprocessing.geometry
    for path in count.of(pictures):
        try:
            read_image(path, geometry=geometry)
        except ImageError as error:
            count.complain(error)
            failures.append(error)
        else:
            yield path


def _check_output(options: argparse.Namespace) -> None:
    from ..heads.taught import check_head_place

    check_head_place(options.out)


def _forget(options: argparse.Namespace) -> int:
    _check_output(options)
    with open_classifier(options) as classifier:
        classifier.forget(options.label)
        return _save(classifier, options, failed=False)


def _save(classifier: "Classifier", options: argparse.Namespace, *, failed: bool) -> int:
    classifier.save_head(options.out)
    labels = ", ".join(
        f"{printable(label)} ({number} picture{'s' if number > 1 else ''})"
        for label, number in classifier.manifest.origin["pictures"].items()
    )
    print(f"head written to {options.out}: {labels}")
    print(f"try it: fic-runtime predict {options.bundle} --head {options.out} PHOTO")
    return 1 if failed else 0
