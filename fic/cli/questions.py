"""What the questions to the cache have in common: the pictures, the folds, and the answer."""

from collections.abc import Mapping
from typing import Any

import click

from ..options import CacheOptions
from .option_values import from_options
from .options import (
    SEED,
    Command,
    add_options,
    data_options,
    given_source,
    split_option,
    verbose_option,
)
from .terminal import TerminalProgress

PICTURES = ("data", "train", "val", "val_split", "seed")
ANSWER = ("out", "folds", "learning_curve", "as_json", "verbose")


def picture_options(command: Command) -> Command:
    """Add the options for pictures and their split."""
    seed = click.option(
        "--seed", type=SEED, default=0, help="Random seed for the split and the folds."
    )
    return add_options(command, data_options, split_option, seed)


def fold_options(command: Command) -> Command:
    """Add the options for the folds and for the form of the answer."""
    return add_options(
        command,
        click.option(
            "--folds",
            type=click.IntRange(min=2),
            default=5,
            help="Number of folds; the pictures of one are judged by heads trained on the others.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object."),
        verbose_option,
    )


def asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that all questions have, from the options of the command line."""
    pictures = (options[name] for name in ("data", "train", "val"))
    return {
        "source": given_source(*pictures, val_split=options["val_split"]),
        "cache": from_options(CacheOptions, {**options, "views": 1}),
        "folds": options["folds"],
        "progress": TerminalProgress(),
    }
