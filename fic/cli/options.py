"""Options shared by several commands, with the defaults of the library."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

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
    PixelNumbers,
    Pooling,
    SkipOrFail,
    TrainingOptions,
)

if TYPE_CHECKING:
    from ..data import Source

Command = TypeVar("Command", bound=Callable[..., Any])


class _AnyPath(click.Path):
    """A path, of a file as of a folder; an empty text is none, though Python reads it as `.`.

    Args:
        remote: whether URLs are allowed; elsewhere they would make odd folders.
    """

    def __init__(self, *, remote: bool = False) -> None:
        super().__init__(path_type=Path)
        self._remote = remote

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path, a `fic.data.remote.RemotePath` for a URL."""
        if value == "":
            self.fail(
                "it is empty; give a path (is a variable of the shell unset?)", parameter, context
            )
        if isinstance(value, str) and "://" in value:
            from ..data.remote import is_url, location, redacted

            if is_url(value) and not self._remote:
                self.fail(f"{redacted(value)} is a URL; a path on this machine is needed")
            value = location(value)
        return value if isinstance(value, Path) else super().convert(value, parameter, context)


class Number(click.FloatRange):
    """A number in a range; what is no number, or has no end, is in none."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the number."""
        number = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that can be computed with", parameter, context)
        return number


FOLDER = _AnyPath()
LOCATION = _AnyPath(remote=True)
SEED = click.IntRange(0, 2**32 - 1)  # what NumPy takes
_AT_LEAST_1 = click.IntRange(min=1)
_POSITIVE = Number(min=0, min_open=True)


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


def _log_progress(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        logging.getLogger().setLevel(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_log_progress,
    help="Log progress, and every file that was left out.",
)

run_cache_option = click.option(
    "--bottleneck-dir",
    type=LOCATION,
    metavar="DIR|URL",
    help="Folder or URL of the bottleneck cache.  [default: that of the run's training]",
)

split_option = click.option(
    "--val-split",
    type=Number(0, 1, min_open=True, max_open=True),
    default=VAL_SPLIT,
    help="Share of each class for validation.",
)


def base_options(command: Command, *, base_model: str | None = BaseOptions.base_model) -> Command:
    """Add the options of the base; `base_model` is the default."""
    return add_options(
        command,
        click.option(
            "--base-model",
            metavar="NAME|FILE|hf://ORG/NAME",
            default=base_model,
            help="Name of the base, see `fic bases` (case, _ and - are ignored); a file that ends "
            "in .onnx or .keras; or hf://ORG/NAME[@REVISION][:PATH] of the Hugging Face hub.",
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
            metavar="LAYER|TENSOR",
            help="Layer of the base whose output is the bottleneck, or any tensor of an ONNX "
            "graph.  [default: the last before the classifier]",
        ),
        click.option(
            "--pooling",
            type=_choice(Pooling),
            default=BaseOptions.pooling,
            help="Pooling of a feature map, or of tokens, into a vector; cls takes the first "
            "token, none keeps all.",
        ),
        click.option(
            "--pixels",
            type=_choice(PixelNumbers),
            help="What pixels become for a base in a file: normalized as for ImageNet or CLIP, "
            "-1 to 1, 0 to 1, or 0 to 255.  [default: as preprocessor_config.json beside it says]",
        ),
        click.option(
            "--preprocessor",
            metavar="FILE",
            help="A preprocessor_config.json that is not beside the file of the base.",
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


def cache_options(command: Command, *, views: bool = True) -> Command:
    """Add the options of extraction and cache; `views` says whether there may be several."""
    several = click.option(
        "--views",
        type=_AT_LEAST_1,
        default=CacheOptions.views,
        help="Versions of each training picture: the plain one, then mirrored, cropped and "
        "color-jittered ones.",
    )
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
        *([several] if views else []),
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


def given_source(
    data: Path | None, train: Path | None, val: Path | None, *, val_split: float = VAL_SPLIT
) -> "Source":
    """Return the source that these options name."""
    from ..data import Source

    try:
        return Source(data=data, train=train, val=val, val_split=val_split)
    except ValueError as error:
        raise click.UsageError("Give either --data, or both --train and --val.") from error


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
            type=Number(min=0),
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
            type=Number(0, 1, max_open=True),
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
