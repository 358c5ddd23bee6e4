"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..options import BaseOptions

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)  # what NumPy takes


def add_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Apply options to a command, the first one topmost in its help."""
    # click shows options in the order of decorators, and those apply from the last to the first.
    for option in reversed(options):
        command = option(command)
    return command


def data_options(command: Command) -> Command:
    """Add where the pictures are."""
    return add_options(
        command,
        click.option(
            "--data",
            type=FOLDER,
            metavar="DIR|CSV",
            help="Folder with one sub-folder of pictures per class, or a CSV file with the columns "
            "path,label; with a third one, split (train or val), it is split already.",
        ),
        click.option(
            "--train",
            type=FOLDER,
            metavar="DIR|CSV",
            help="The same with training pictures only; with --val, instead of --data.",
        ),
        click.option(
            "--val", type=FOLDER, metavar="DIR|CSV", help="Likewise with validation pictures."
        ),
    )


run_cache_option = click.option(
    "--bottleneck-dir",
    type=FOLDER,
    help="Folder of the bottleneck cache.  [default: the one that the run was trained with]",
)

split_option = click.option(
    "--val-split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    help="Share of each class for validation; the rest is for training.",
)


def base_options(command: Command, *, base_model: str | None = "mobilenet_v2") -> Command:
    """Add which base, with which weights; `base_model` is the default."""
    return add_options(
        command,
        click.option(
            "--base-model",
            metavar="NAME",
            default=base_model,
            help="A name from `fic bases`; case, _ and - do not matter.",
        ),
        click.option(
            "--weights",
            metavar="imagenet|none|FILE",
            default="imagenet",
            help="ImageNet's (downloaded once by Keras), random ones, or a Keras weights file.",
        ),
        click.option(
            "--image-size",
            type=click.IntRange(min=1),
            metavar="PIXELS",
            help="Side of the base's input.  [default: the base's own]",
        ),
        click.option(
            "--resize",
            type=click.Choice(["stretch", "crop", "pad"]),
            help="How a picture becomes square.  [default: the base's own]",
        ),
        click.option(
            "--bottleneck-tensorname",
            metavar="LAYER",
            help="Cut the base at the output of this layer.  [default: the last before the "
            "classifier]",
        ),
        click.option(
            "--pooling",
            type=click.Choice(["avg", "max", "none"]),
            default="avg",
            help="How a feature map becomes a vector; none keeps the map.",
        ),
    )


def chosen_base(options: dict[str, Any]) -> BaseOptions:
    """Return what the options of `base_options` were set to."""
    return BaseOptions(
        base_model=options["base_model"],
        weights=options["weights"],
        image_size=options["image_size"],
        resize=options["resize"],
        tensor=options["bottleneck_tensorname"],
        pooling=options["pooling"],
    )


def cache_options(command: Command) -> Command:
    """Add how bottlenecks are extracted and kept."""
    return add_options(
        command,
        click.option(
            "--bottleneck-dir",
            type=FOLDER,
            default=Path("bottlenecks"),
            help="Folder of the bottleneck cache; any number of data sets may share it.",
        ),
        click.option(
            "--bottlenecks-batch-size",
            type=click.IntRange(min=1),
            default=16,
            help="Pictures in one pass through the base.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["auto", "onnx", "keras"]),
            default="auto",
            help="What runs the base; auto takes the faster one that works here.",
        ),
        click.option(
            "--cache-dtype",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            help="Element type in the cache; float16 takes half the space.",
        ),
        click.option(
            "--cache-compression",
            type=click.Choice(["none", "gzip"]),
            default="none",
            help="gzip makes feature maps smaller and slower to read.",
        ),
        click.option(
            "--views",
            type=click.IntRange(min=1),
            default=1,
            help="Versions of each training picture: the plain one, then mirrored, cropped and "
            "recoloured ones.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["skip", "fail"]),
            default="skip",
            help="What to do about a picture that cannot be read.",
        ),
    )
