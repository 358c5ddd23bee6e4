"""The command `fic-runtime`: classify pictures with a bundle, without a training framework."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ..errors import FicError
from . import bench, doctor, explain, extract, html, info, predict, selftest, serve, teach, watch
from .interrupting import ended_by_interrupt
from .process import (
    ending_on_signals,
    exit_code_of,
    interruption_behind,
    prepare_streams,
    shortage,
    silence,
    silence_broken,
    surviving,
)

_COMMANDS = (predict, watch, serve, extract, explain, teach, html, bench, selftest, info, doctor)

_EXAMPLES = """examples:
  fic-runtime predict bundle photo.jpg             label and probability
  fic-runtime predict bundle photos/ --top-k 3     every picture in a folder
  fic-runtime predict bundle *.jpg --json          one JSON object per line
  fic-runtime predict bundle a.jpg --head head     another head on the same base
  find . -name '*.jpg' | fic-runtime predict bundle - --csv > answers.csv
  fic-runtime watch bundle 0                       label changes of the first camera
  fic-runtime serve bundle                         HTTP server at http://127.0.0.1:8000
  fic-runtime extract bundle photos/ --out f.npz   bottlenecks of every picture
  fic-runtime bench bundle                         speed on this machine
  fic-runtime explain bundle photo.jpg --out seen.png   heat map of the label
  fic-runtime teach bundle tulips *.jpg --out head add a label
  fic-runtime forget bundle roses --out head       remove a label
  fic-runtime html bundle --out page.html          web page that classifies, in one file
  fic-runtime selftest bundle                      comparison with the recorded results
  fic-runtime info bundle                          contents of the bundle
  fic-runtime doctor                               state of this machine
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 ok, 1 failure, 2 wrong usage, 3 self-test failed, 130 Ctrl-C.

    143 is SIGTERM and 129 SIGHUP, at which it cleans up as it does at Ctrl-C.
    """
    prepare_streams()
    try:
        options = _parsed(arguments)
        # The server ends by itself, after the requests that it has accepted.
        ended = nullcontext() if options.command is serve.serve_bundle else ended_by_interrupt()
        with ending_on_signals(), ended:
            status = options.command(options)
        sys.stdout.flush()
    except FicError as error:
        _complain(str(error))
        status = error.exit_code
    except KeyboardInterrupt as error:
        status = exit_code_of(error)
    except OSError as error:  # of the output: a file that cannot be read is a FicError
        # Not for a reader that has gone (`| head`).
        if not isinstance(error, BrokenPipeError):
            _complain(f"cannot write the answers ({error.strerror})")
        silence(sys.stdout)
        status = 1
    except Exception as error:
        if (interruption := interruption_behind(error)) is not None:
            status = exit_code_of(interruption)
        elif (reason := shortage(error)) is not None:
            _complain(reason)
            status = 1
        else:
            raise
    sys.exit(status)


def _complain(text: str) -> None:
    with surviving(sys.stderr):
        print(f"fic-runtime: {text}", file=sys.stderr)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    try:
        return _parser().parse_args(arguments)
    except SystemExit:
        # Of the help and of the usage; Python would end with a code of its own.
        silence_broken(sys.stderr)
        sys.stdout.flush()
        raise


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        # argparse's own says nothing of a full disk.
        print(self.format_help(), end="", file=file or sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fic-runtime",
        description="Image classification with a bundle written by `fic export`.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


class _Version(argparse.Action):
    # Read on demand: the installed version costs a search that other commands need not pay.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .. import __version__

        print(f"fic-runtime {__version__}")
        parser.exit()
