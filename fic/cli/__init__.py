"""The command `fic`, a thin layer over the library. It owns the terminal and the exit code."""

import errno
import logging
import os
import sys

import click

from fic_runtime.cli.process import (
    ending_on_signals,
    exit_code_of,
    interruption_behind,
    prepare_streams,
    shortage,
    silence,
    silence_broken,
    surviving,
)
from fic_runtime.errors import FicError, printable

from ..bases.keras_setup import quiet_tensorflow
from .audit import audit
from .bases import bases
from .cache import cache
from .data import data, split
from .export import export
from .predict import evaluate, predict
from .report import report
from .train import extract, train
from .tune import compare, tune
from .verify import verify

_INTERRUPTED = "interrupted; what was extracted so far is in the cache"
_EPILOG = """\b
A first classifier, from a folder with one sub-folder of photos per class:
  fic train --data photos --out run
  fic predict run photo.jpg
  fic export run --out bundle
  fic-runtime predict bundle photo.jpg      # needs no TensorFlow
"""


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .. import __version__

        click.echo(f"fic {__version__}")
        context.exit()


@click.group(
    epilog=_EPILOG,
    context_settings={
        # FIC_TRAIN_WEIGHTS is the default of `fic train --weights`, and so on.
        "auto_envvar_prefix": "FIC",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
        # So that `--base_model`, as it was spelled before, is `--base-model`.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log progress.")
def cli(verbose: bool) -> None:
    """Train an image classifier in seconds and ship it without TensorFlow."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OwnLines("fic: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


class _OwnLines(logging.Formatter):
    """Keeps messages of this project to one printable line, whatever names of others are in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = super().formatMessage(record)
        return printable(line) if record.name.partition(".")[0].startswith("fic") else line


for command in (
    *(train, tune, compare, audit, report, predict, evaluate, export, verify, split),
    *(bases, extract, cache, data),
):
    cli.add_command(command)


def main() -> None:
    """Run the command and exit: 0 ok, 1 failure, 2 wrong usage, 3 a gate failed, 130 Ctrl-C.

    143 is SIGTERM and 129 SIGHUP, at which it commits what was extracted as it does at Ctrl-C.
    """
    prepare_streams()
    _prepare_tensorflow()
    try:
        with ending_on_signals():
            status = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        with surviving(sys.stderr):
            error.show()
        status = error.exit_code
    except FicError as error:
        _complain(str(error))
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        _complain(_INTERRUPTED)
        status = exit_code_of(error.__cause__ or error)  # click raises its own from the first
    except BrokenPipeError:
        silence(sys.stdout)  # the reader of the pipe has gone (`| head`)
        status = 1
    except OSError as error:
        silence_broken(sys.stdout)
        _complain(_describe(error))
        status = 1
    except Exception as error:
        if (interruption := interruption_behind(error)) is not None:
            _complain(_INTERRUPTED)
            status = exit_code_of(interruption)
        elif (reason := shortage(error)) is not None:
            _complain(reason)
            status = 1
        else:
            raise
    sys.exit(status)


def _complain(text: str) -> None:
    with surviving(sys.stderr):
        click.echo(f"fic: {text}", err=True)


def _describe(error: OSError) -> str:
    if "temporary directory" in str(error.strerror):
        return "there is no temporary folder that can be written; set TMPDIR to one"
    path = error.filename or "standard output or a file"  # neither is named where a write fails
    remedy = {
        errno.ENOSPC: "free space on this disk and run again",
        errno.EACCES: "check who may read and write there",
        errno.EROFS: "give a folder that can be written",
    }.get(error.errno or 0, "check the path and run again")
    return f"{path}: {(error.strerror or str(error)).lower()}; {remedy}"


def _prepare_tensorflow() -> None:
    # fic's training step is TensorFlow's, whatever backend Keras is set to elsewhere.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # What OpenCV would log of a broken picture comes back as an error that names the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    quiet_tensorflow()
