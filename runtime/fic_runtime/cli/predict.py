"""`fic-runtime predict`."""

import argparse
import csv
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import ImageError
from .counting import Count, Result, threads_each, with_paths
from .heads import add_heads, answer_by_head, open_heads
from .options import add_bundle, add_device, add_images, named_pictures, open_classifier, positive

if TYPE_CHECKING:
    from .options import Commands, NamedPictures

Answers: TypeAlias = Generator[Result | ImageError, None, None]


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="classify pictures",
        description="Classify pictures. Unreadable pictures are reported, and the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    add_images(parser)
    parser.add_argument(
        "--top-k",
        type=positive,
        default=1,
        metavar="K",
        help="number of labels per picture, best first (default: 1)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per line")
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    add_heads(parser)
    add_device(parser, threads="all available processors, 1 for many pictures")


def _run(options: argparse.Namespace) -> int:
    from . import answers

    pictures = named_pictures(options.images)
    options.threads = options.threads or threads_each(pictures)
    if answer_by_head(options):
        with open_heads(options) as heads:
            return _answer(
                options,
                pictures,
                partial(heads.stream, on_error="yield"),
                line=answers.heads_line,
                as_json=answers.heads_json,
                columns=answers.heads_table_head,
                rows=answers.heads_table_rows,
                known=any(manifest.known for manifest in heads.manifests.values()),
            )
    with open_classifier(options) as classifier:
        return _answer(
            options,
            pictures,
            partial(classifier.stream, on_error="yield"),
            line=answers.answer_line,
            as_json=answers.answer_json,
            columns=answers.table_head,
            rows=lambda path, answer, **form: [answers.table_row(path, answer, **form)],
            known=classifier.manifest.known is not None,
        )


def _answer(
    options: argparse.Namespace,
    pictures: "NamedPictures",
    stream: Callable[[Iterable[Path]], Answers[Result]],
    *,
    line: Callable[..., str],
    as_json: Callable[..., str],
    columns: Callable[..., list[str]],
    rows: Callable[..., list[list[str]]],
    known: bool,
) -> int:
    table = csv.writer(sys.stdout, lineterminator="\n")
    failures = 0
    count = Count(answers=True)
    if options.csv:
        table.writerow(columns(top_k=options.top_k, known=known))
    with closing(with_paths(pictures, stream)) as answers:
        for path, answer in count.of(answers, pictures):
            if isinstance(answer, ImageError):
                failures += 1
                count.complain(answer)
            if options.csv:
                table.writerows(rows(path, answer, top_k=options.top_k, known=known))
            elif options.json:
                print(as_json(path, answer, top_k=options.top_k))
            elif not isinstance(answer, ImageError):
                print(line(path, answer, top_k=options.top_k))
            # Into a pipe, too: who writes the paths may wait for an answer before the next one.
            sys.stdout.flush()
    count.report(pictures, verbose=options.verbose)
    return 1 if failures else 0
