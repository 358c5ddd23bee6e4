"""`fic-runtime extract`."""

import argparse
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ImageError
from ..results import check_apart
from .counting import Count, threads_each, with_paths
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
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "extract",
        help="write the bottlenecks of pictures to a file",
        description="Write the bottlenecks of pictures to a file. Unreadable pictures are reported "
        "and left out, and the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    add_images(parser)
    parser.add_argument(
        "--out",
        type=some_path,
        required=True,
        metavar="FILE",
        help="output file: .npz with the arrays `files` and `bottlenecks`, or .csv",
    )
    add_device(parser, threads="all available processors, 1 for many pictures")


def _run(options: argparse.Namespace) -> int:
    from .feature_files import check_feature_file, feature_file

    check_apart(options.out, named_folders(options.images))
    check_feature_file(options.out)
    written = failures = 0
    count = Count(answers=False)
    pictures = named_pictures(options.images)
    options.threads = options.threads or threads_each(pictures)
    with open_classifier(options) as classifier:
        shape = classifier.manifest.base.output.item_shape
        stream = partial(classifier.extract_stream, on_error="yield")
        with (
            feature_file(options.out, shape) as add,
            closing(with_paths(pictures, stream)) as answers,
        ):
            for path, answer in count.of(answers, pictures):
                if isinstance(answer, ImageError):
                    failures += 1
                    count.complain(answer)
                else:
                    add(path, answer)
                    written += 1
            if not written:
                raise ImageError("none of the pictures could be read; nothing was written")
    count.report(pictures, verbose=options.verbose)
    print(f"{written} bottlenecks of {' x '.join(map(str, shape))} written to {options.out}")
    return 1 if failures else 0
