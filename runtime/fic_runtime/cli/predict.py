"""`fic-runtime predict`."""

import argparse
import csv
import sys
from typing import TYPE_CHECKING

from ..errors import ImageError
from .counting import Count
from .options import add_bundle, add_device, add_head, named_pictures, open_classifier, positive

if TYPE_CHECKING:
    from ..classifier import Prediction
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="classify pictures",
        description="Classify pictures. One that cannot be read is named, and the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="an image file, a folder, or - for their paths on standard input, one a line",
    )
    parser.add_argument(
        "--top-k",
        type=positive,
        default=1,
        metavar="K",
        help="how many labels to print for each picture, best first (default: 1)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line")
    form.add_argument("--csv", action="store_true", help="print a table of comma-separated values")
    add_head(parser)
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    from ..answers import answer_json, answer_line, table_head, table_row

    table = csv.writer(sys.stdout, lineterminator="\n")
    failures = 0
    count = Count(answers=True)
    with open_classifier(options) as classifier:
        if options.csv:
            table.writerow(table_head(top_k=options.top_k))
        for path in count.of(named_pictures(options.images)):
            answer: Prediction | ImageError
            try:
                answer = classifier.predict(path)
            except ImageError as error:
                failures += 1
                count.complain(error)
                answer = error
            if options.csv:
                table.writerow(table_row(path, answer, top_k=options.top_k))
            elif options.json:
                print(answer_json(path, answer, top_k=options.top_k))
            elif not isinstance(answer, ImageError):
                print(answer_line(path, answer, top_k=options.top_k))
    return 1 if failures else 0
