"""The command `fic-runtime`: classify pictures with a bundle, without a training framework."""

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING

from .devices import MAX_THREADS
from .errors import FicError, ImageError

if TYPE_CHECKING:
    from .classifier import Prediction

_SECONDS_BETWEEN_COUNTS = 0.2

_EXAMPLES = """examples:
  fic-runtime predict bundle photo.jpg             the label and its probability
  fic-runtime predict bundle photos/ --top-k 3     every picture below a folder
  fic-runtime predict bundle *.jpg --json          one JSON object a line
  find . -name '*.jpg' | fic-runtime predict bundle - --csv > answers.csv
  fic-runtime extract bundle photos/ --out f.npz   the bottlenecks of every picture
  fic-runtime selftest bundle                      does this device give the recorded results?
  fic-runtime info bundle                          what is in the bundle
  fic-runtime doctor                               what can this machine do, and what is wrong?
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 ok, 1 failure, 2 wrong usage, 3 self-test failed, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to fail; in JSON it stays readable.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = options.command(options)
        sys.stdout.flush()
    except FicError as error:
        print(f"fic-runtime: {error}", file=sys.stderr)
        status = error.exit_code
    except KeyboardInterrupt:
        status = 130
    except OSError as error:  # of the output: a file that cannot be read is a FicError
        # Not for a reader that has gone (`| head`).
        if not isinstance(error, BrokenPipeError):
            print(f"fic-runtime: cannot write the answers ({error.strerror})", file=sys.stderr)
        # Keep Python from failing again when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fic-runtime",
        description="Classify pictures with a bundle that `fic export` wrote.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    predict = commands.add_parser(
        "predict",
        help="classify pictures",
        description="Classify pictures. One that cannot be read is named, and the exit code is 1.",
    )
    predict.set_defaults(command=_predict)
    _add_bundle(predict)
    predict.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="an image file, a folder, or - for their paths on standard input, one a line",
    )
    predict.add_argument(
        "--top-k",
        type=_positive,
        default=1,
        metavar="K",
        help="how many labels to print for each picture, best first (default: 1)",
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line")
    form.add_argument("--csv", action="store_true", help="print a table of comma-separated values")
    _add_device(predict)

    extract = commands.add_parser(
        "extract",
        help="write the bottlenecks of pictures to a file",
        description="Write the bottlenecks of pictures to a file. A picture that cannot be read is "
        "named and left out, and the exit code is 1.",
    )
    extract.set_defaults(command=_extract)
    _add_bundle(extract)
    extract.add_argument("images", metavar="IMAGE", nargs="+", help="an image file or a folder")
    extract.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="an .npz with the arrays `files` and `bottlenecks`, or a .csv with a line a picture",
    )
    _add_device(extract)

    selftest = commands.add_parser(
        "selftest",
        help="compare this device's results with those recorded at export",
        description="Compare this device's results with those recorded at export; "
        "the exit code is 3 where they differ.",
    )
    selftest.set_defaults(command=_selftest)
    _add_bundle(selftest)
    selftest.add_argument("--json", action="store_true", help="print one JSON object")
    _add_device(selftest)

    info = commands.add_parser(
        "info",
        help="print what is in a bundle",
        description="Check the files of a bundle and print what is in it.",
    )
    info.set_defaults(command=_info)
    _add_bundle(info)
    info.add_argument("--json", action="store_true", help="print the whole manifest as JSON")

    doctor = commands.add_parser(
        "doctor",
        help="print what this machine can do, and what is wrong with it",
        description="Print versions, processors, limits and the execution providers that really "
        "work; the exit code is 1 where something should be put right.",
    )
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or its zip archive"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="auto takes CUDA where it works; cuda fails where it does not (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads for one prediction (default: all that this process may use)",
    )


class _Version(argparse.Action):
    # Read on demand: the installed version costs a search that other commands need not pay.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        print(f"fic-runtime {__version__}")
        parser.exit()


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _threads(text: str) -> int:
    number = _positive(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is past the limit of {MAX_THREADS}")
    return number


def _predict(options: argparse.Namespace) -> int:
    from .answers import answer_json, answer_line, table_head, table_row
    from .classifier import Classifier

    table = csv.writer(sys.stdout, lineterminator="\n")
    failures = 0
    with Classifier(options.bundle, device=options.device, threads=options.threads) as classifier:
        if options.csv:
            table.writerow(table_head(top_k=options.top_k))
        for path in _counted(_pictures(options.images)):
            answer: Prediction | ImageError
            try:
                answer = classifier.predict(path)
            except ImageError as error:
                failures += 1
                print(f"{_over_the_count()}fic-runtime: {error}", file=sys.stderr)
                answer = error
            if options.csv:
                table.writerow(table_row(path, answer, top_k=options.top_k))
            elif options.json:
                print(answer_json(path, answer, top_k=options.top_k))
            elif not isinstance(answer, ImageError):
                print(answer_line(path, answer, top_k=options.top_k))
    return 1 if failures else 0


def _pictures(arguments: Sequence[str]) -> Iterable[Path]:
    """Return the pictures that arguments name, and those that standard input names for `-`."""
    from .picture_files import find_pictures

    if "-" not in arguments:
        return find_pictures(arguments)
    # As they come: what writes the paths may take its time.
    given = (
        line.rstrip("\r\n")
        for argument in arguments
        for line in (sys.stdin if argument == "-" else [argument])
    )
    return (path for each in given if each for path in find_pictures([each]))


def _over_the_count() -> str:
    """Return what wipes the count from the terminal's line."""
    return "\r\x1b[K" if sys.stderr.isatty() and not sys.stdout.isatty() else ""


def _counted(pictures: Iterable[Path]) -> Iterator[Path]:
    """Count the pictures on the terminal, where the answers go elsewhere."""
    if not _over_the_count():
        yield from pictures
        return
    total = f" of {len(pictures)}" if isinstance(pictures, Sized) else ""
    shown = 0.0
    for number, path in enumerate(pictures, 1):
        if time.monotonic() - shown > _SECONDS_BETWEEN_COUNTS:
            shown = time.monotonic()
            print(f"\r{number}{total} pictures", end="", file=sys.stderr, flush=True)
        yield path
    print(_over_the_count(), end="", file=sys.stderr, flush=True)


def _extract(options: argparse.Namespace) -> int:
    import numpy as np

    from .classifier import Classifier
    from .feature_files import check_feature_file, write_features
    from .picture_files import find_pictures

    files: list[Path] = []
    rows: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    failures = 0
    with Classifier(options.bundle, device=options.device, threads=options.threads) as classifier:
        shape = classifier.manifest.base.output.shape[1:]
        check_feature_file(options.out, len(shape))
        for path in find_pictures(options.images):
            try:
                rows.append(classifier.extract([path], batch_size=1)[0])
                files.append(path)
            except ImageError as error:
                failures += 1
                print(f"fic-runtime: {error}", file=sys.stderr)
    if not rows:
        raise ImageError("none of the pictures could be read; nothing was written")
    write_features(options.out, files, np.stack(rows))
    print(f"{len(rows)} bottlenecks of {' x '.join(map(str, shape))} written to {options.out}")
    return 1 if failures else 0


def _selftest(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .selftest import PIXEL_TOLERANCE, TOLERANCE, run_selftest

    result = run_selftest(options.bundle, device=options.device, threads=options.threads)
    if options.json:
        print(json.dumps({**asdict(result), "passed": result.passed}))
    else:
        print(f"{result.pictures} pictures on {result.provider}")
        print(f"pixels         {result.pixels} grey levels (at most {PIXEL_TOLERANCE})")
        print(f"bottlenecks    {result.bottlenecks:.1e} relative (at most {TOLERANCE:.0e})")
        print(f"probabilities  {result.probabilities:.1e} (at most {TOLERANCE:.0e})")
        print("passed" if result.passed else "FAILED: this device gives other results")
    return 0 if result.passed else 3


def _info(options: argparse.Namespace) -> int:
    from .bundle import open_bundle

    bundle = open_bundle(options.bundle)
    manifest = bundle.manifest
    if options.json:
        print(manifest.to_json(), end="")
        return 0
    geometry = manifest.preprocessing.geometry
    print(f"labels      {len(manifest.labels)}: {', '.join(manifest.labels)}")
    print(f"input       {geometry.width}x{geometry.height} RGB, {geometry.resize}")
    for key, value in manifest.origin.items():
        print(f"{key:<11} {value}")
    for group in (manifest.metrics, manifest.parity, manifest.versions):
        for key, value in group.items():
            if not isinstance(value, dict | list):
                print(f"{key:<24} {value}")
    for file in sorted(manifest.files):
        print(f"{file:<24} {bundle.files.size(file)} bytes")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .doctor import examine

    found = examine()
    if options.json:
        print(json.dumps(asdict(found)))
        return 1 if found.problems else 0
    there, usable = found.processors
    limits = (
        "no limit" if found.processor_limit is None else f"{found.processor_limit:g} processors",
        "no limit" if found.memory_limit is None else f"{found.memory_limit / 1e9:.1f} GB",
    )
    print(f"system      {found.system}")
    print(f"processor   {found.processor or 'not known'}")
    print(f"            {usable} of {there} usable; {' '.join(found.features)}")
    print(f"container   processors: {limits[0]}; memory: {limits[1]}")
    for name, number in found.versions.items():
        print(f"{name:<11} {number}")
    for check in found.providers:
        print(f"{check.name}: {'works' if check.usable else f'not usable ({check.reason})'}")
    for problem in found.problems:
        print(f"PROBLEM: {problem}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    main()
