"""Options shared by several commands, with the defaults of the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from fic_runtime.preprocessing import Resize

from ..options import (
    LEARNING_RATES,
    VAL_SPLIT,
    BaseOptions,
    CacheDtype,
    CacheOptions,
    ClassWeights,
    Compression,
    EngineName,
    Monitor,
    Pooling,
    SkipOrFail,
    TrainingOptions,
)

Command = TypeVar("Command", bound=Callable[..., Any])


class _Location(click.Path):
    """A path; `remote` allows URLs, which are refused elsewhere instead of making odd folders."""

    def __init__(self, *, remote: bool) -> None:
        super().__init__(path_type=Path)
        self._remote = remote

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, a `fic.data.remote.RemotePath` for a URL."""
        if isinstance(value, str) and "://" in value:
            from ..data.remote import is_url, location, redacted

            if is_url(value):
                if not self._remote:
                    self.fail(f"{redacted(value)} is a URL; a path on this machine is needed")
                return location(value)
        return value if isinstance(value, Path) else super().convert(value, param, ctx)


FOLDER = _Location(remote=False)
LOCATION = _Location(remote=True)
SEED = click.IntRange(0, 2**32 - 1)  # what NumPy takes
_AT_LEAST_1 = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)


def add_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Apply options to a command, the first one topmost in its help."""
    # click shows options in the order of decorators, and those apply from the last to the first.
    for option in reversed(options):
        command = option(command)
    return command


def data_options(command: Command) -> Command:
    """Add the options for the pictures."""
    return add_options(
        command,
        click.option(
            "--data",
            type=LOCATION,
            metavar="DIR|CSV|URL",
            help="Folder with one sub-folder of pictures per class, or a CSV file with the columns "
            "path,label; a third column, split (train or val), sets the split. Either may be at a "
            "URL such as s3://bucket/photos, and the paths in a CSV file may be URLs.",
        ),
        click.option(
            "--train",
            type=LOCATION,
            metavar="DIR|CSV|URL",
            help="Training pictures in the same form; with --val, instead of --data.",
        ),
        click.option(
            "--val",
            type=LOCATION,
            metavar="DIR|CSV|URL",
            help="Validation pictures in the same form; with --train.",
        ),
    )


run_cache_option = click.option(
    "--bottleneck-dir",
    type=LOCATION,
    metavar="DIR|URL",
    help="Folder or URL of the bottleneck cache.  [default: that of the run's training]",
)

split_option = click.option(
    "--val-split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=VAL_SPLIT,
    help="Share of each class for validation.",
)


def base_options(command: Command, *, base_model: str | None = BaseOptions.base_model) -> Command:
    """Add the options of the base; `base_model` is the default."""
    return add_options(
        command,
        click.option(
            "--base-model",
            metavar="NAME",
            default=base_model,
            help="Name of the base, see `fic bases`; case, _ and - are ignored.",
        ),
        click.option(
            "--weights",
            metavar="imagenet|none|FILE",
            default=BaseOptions.weights,
            help="Weights of the base: ImageNet's (of a package, or downloaded once by Keras), "
            "random ones, or a Keras weights file.",
        ),
        click.option(
            "--image-size",
            type=_AT_LEAST_1,
            metavar="PIXELS",
            help="Side of the base's input.  [default: the base's own]",
        ),
        click.option(
            "--resize",
            type=_choice(Resize),
            help="How a picture becomes square.  [default: the base's own]",
        ),
        click.option(
            "--bottleneck-tensorname",
            metavar="LAYER",
            help="Layer of the base whose output is the bottleneck.  [default: the last before the "
            "classifier]",
        ),
        click.option(
            "--pooling",
            type=_choice(Pooling),
            default=BaseOptions.pooling,
            help="Pooling of a feature map into a vector; none keeps the map.",
        ),
    )


_ray_option = click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="local",
    help="Extract on a Ray cluster: auto for the one that this machine belongs to, "
    "ray://host:10001, or no address for a cluster on this machine alone.",
)


def cache_options(command: Command) -> Command:
    """Add the options of extraction and cache."""
    return add_options(
        command,
        click.option(
            "--bottleneck-dir",
            type=LOCATION,
            metavar="DIR|URL",
            default=CacheOptions.bottleneck_dir,
            help="Folder of the bottleneck cache, or a URL such as s3://bucket/cache; several data "
            "sets and bases may share it.",
        ),
        click.option(
            "--bottlenecks-batch-size",
            type=_AT_LEAST_1,
            default=CacheOptions.batch_size,
            help="Pictures in one pass through the base.",
        ),
        click.option(
            "--engine",
            type=_choice(EngineName),
            default=CacheOptions.engine,
            help="Engine that runs the base; auto takes the fastest that works here.",
        ),
        click.option(
            "--cache-dtype",
            type=_choice(CacheDtype),
            default=CacheOptions.dtype,
            help="Element type in the cache; float16 takes half the space.",
        ),
        click.option(
            "--cache-compression",
            type=_choice(Compression),
            default=CacheOptions.compression,
            help="Compression of the cache; gzip makes feature maps smaller and slower to read.",
        ),
        click.option(
            "--views",
            type=_AT_LEAST_1,
            default=CacheOptions.views,
            help="Versions of each training picture: the plain one, then mirrored, cropped and "
            "color-jittered ones.",
        ),
        click.option(
            "--on-error",
            type=_choice(SkipOrFail),
            default=CacheOptions.on_error,
            help="Whether to skip a picture that cannot be read, or to fail.",
        ),
        click.option(
            "--create-bottleneck",
            is_flag=True,
            help="Extract all bottlenecks of these pictures again, cached ones included.",
        ),
        _ray_option,
    )


def training_options(command: Command) -> Command:
    """Add the options of the head and its training."""
    return add_options(command, _head_options, _objective_options, _epoch_options)


def whole_network_options(command: Command) -> Command:
    """Add the options of training through the whole network."""
    return add_options(
        command,
        click.option(
            "--omit-bottlenecks",
            is_flag=True,
            help="Cache no bottlenecks: send each picture, augmented anew, through the frozen base "
            "in every epoch.",
        ),
        click.option(
            "--fine-tune",
            type=click.IntRange(min=0),
            default=TrainingOptions.fine_tune,
            metavar="N",
            help="Train the last N layers of the base after the head; layers without weights and "
            "BatchNormalization do not count and stay frozen.",
        ),
        click.option(
            "--fine-tune-lr",
            type=_POSITIVE,
            default=TrainingOptions.fine_tune_learning_rate,
            help="Learning rate of fine-tuning.",
        ),
        click.option(
            "--fine-tune-epochs",
            type=_AT_LEAST_1,
            default=TrainingOptions.fine_tune_epochs,
            help="Maximum number of epochs of fine-tuning.",
        ),
    )


def _head_options(command: Command) -> Command:
    return add_options(
        command,
        click.option(
            "--head",
            metavar="linear|mlp[:UNITS[,DROPOUT]]|rest|FILE.py:FUNCTION",
            help="Head: one dense layer; a hidden layer before it; the rest of the base after "
            "--bottleneck-tensorname; or what your function returns when called with "
            "(bottleneck, num_classes).  [default: linear]",
        ),
        click.option(
            "--load-weights",
            type=FOLDER,
            metavar="RUN|FILE",
            help="Initial weights: a run, its head.keras, or a .weights.h5 of --head.",
        ),
        click.option(
            "--extend-classes",
            is_flag=True,
            help="With --load-weights RUN, allow other classes in the data set; those that the run "
            "knows keep their weights.",
        ),
        click.option(
            "--seed",
            type=SEED,
            default=TrainingOptions.seed,
            help="Random seed for the split, initial weights and shuffling.",
        ),
    )


def _objective_options(command: Command) -> Command:
    return add_options(
        command,
        click.option(
            "--optimizer",
            type=click.Choice(list(LEARNING_RATES)),
            default=TrainingOptions.optimizer,
            help="Optimizer.",
        ),
        click.option(
            "--lr",
            type=_POSITIVE,
            help="Learning rate.  [default: 0.01 for sgd, else 0.001; a tenth of it for --head "
            "rest]",
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(min=0),
            default=TrainingOptions.weight_decay,
            help="Weight decay of the head (L2; decoupled for adamw).",
        ),
        click.option(
            "--class-weights",
            type=_choice(ClassWeights),
            default=TrainingOptions.class_weights,
            help="Weights of the classes in the loss; balanced makes up for rare classes.",
        ),
        click.option(
            "--label-smoothing",
            type=click.FloatRange(0, 1, max_open=True),
            default=TrainingOptions.label_smoothing,
            help="Label smoothing.",
        ),
    )


def _epoch_options(command: Command) -> Command:
    return add_options(
        command,
        click.option(
            "--batch-size-train",
            type=_AT_LEAST_1,
            default=TrainingOptions.batch_size,
            help="Bottlenecks in one training step.",
        ),
        click.option(
            "--epochs",
            type=click.IntRange(min=0),
            default=TrainingOptions.epochs,
            help="Maximum number of epochs; 0 only evaluates.",
        ),
        click.option(
            "--monitor",
            type=_choice(Monitor),
            default=TrainingOptions.monitor,
            help="Validation figure that decides which epoch is kept.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(min=0),
            default=TrainingOptions.patience,
            help="Epochs without improvement before training stops; 0 never stops early.",
        ),
        click.option("--logs", type=FOLDER, metavar="DIR", help="Folder for TensorBoard events."),
    )


def _choice(literal: object) -> click.Choice[str]:
    return click.Choice(list(get_args(literal)))
