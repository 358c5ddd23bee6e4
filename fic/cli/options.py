"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..options import LEARNING_RATES, BaseOptions, TrainingOptions

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


def base_options(command: Command, *, base_model: str | None = BaseOptions.base_model) -> Command:
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
            default=BaseOptions.weights,
            help="ImageNet's (of a package, or downloaded once by Keras), random ones, or a Keras "
            "weights file.",
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


def training_options(command: Command) -> Command:
    """Add how the head is trained."""
    return add_options(
        command,
        click.option(
            "--head",
            metavar="linear|mlp[:UNITS[,DROPOUT]]|rest|FILE.py:FUNCTION",
            help="What is trained: one dense layer; one hidden layer before it; the rest of the "
            "base after --bottleneck-tensorname; or what a function of yours, called with "
            "(bottleneck, num_classes), returns.  [default: linear]",
        ),
        click.option(
            "--load-weights",
            type=FOLDER,
            metavar="RUN|FILE",
            help="Go on from the head of a run, from head.keras, or from a .weights.h5 of --head.",
        ),
        click.option(
            "--extend-classes",
            is_flag=True,
            help="With --load-weights RUN: the data set may have other classes; those that the run "
            "knows keep their weights.",
        ),
        click.option(
            "--batch-size-train",
            type=click.IntRange(min=1),
            default=TrainingOptions.batch_size,
            help="Bottlenecks in one training step.",
        ),
        click.option(
            "--epochs",
            type=click.IntRange(min=0),
            default=TrainingOptions.epochs,
            help="Passes over the training bottlenecks at most; 0 only evaluates.",
        ),
        click.option(
            "--optimizer",
            type=click.Choice(list(LEARNING_RATES)),
            default=TrainingOptions.optimizer,
            help="What moves the weights.",
        ),
        click.option(
            "--lr",
            type=click.FloatRange(min=0, min_open=True),
            help="Learning rate of the optimiser.  [default: 0.01 for sgd, else 0.001; a tenth of "
            "it for --head rest]",
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(min=0),
            default=TrainingOptions.weight_decay,
            help="Pull of the head's weights towards zero (L2; for adamw its own).",
        ),
        click.option(
            "--class-weights",
            type=click.Choice(["none", "balanced"]),
            default=TrainingOptions.class_weights,
            help="balanced gives each class the same say, however few pictures it has.",
        ),
        click.option(
            "--label-smoothing",
            type=click.FloatRange(0, 1, max_open=True),
            default=TrainingOptions.label_smoothing,
            help="Share of the truth that is spread over all classes.",
        ),
        click.option(
            "--monitor",
            type=click.Choice(["loss", "accuracy"]),
            default=TrainingOptions.monitor,
            help="The validation figure that tells the best epoch, which is kept.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(min=0),
            default=TrainingOptions.patience,
            help="Stop after so many epochs without a better one; 0 never stops early.",
        ),
        click.option("--seed", type=SEED, default=0, help="Of the split, the head and the order."),
        click.option("--logs", type=FOLDER, help="Folder for TensorBoard events."),
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
        click.option(
            "--create-bottleneck",
            is_flag=True,
            help="Extract all bottlenecks of these pictures again, the cached ones too.",
        ),
    )


def whole_network_options(command: Command) -> Command:
    """Add how far the base takes part in the training."""
    return add_options(
        command,
        click.option(
            "--omit-bottlenecks",
            is_flag=True,
            help="Keep no bottlenecks: send each picture, altered anew, through the frozen base "
            "in every epoch.",
        ),
        click.option(
            "--fine-tune",
            type=click.IntRange(min=0),
            default=TrainingOptions.fine_tune,
            metavar="N",
            help="After the head, train the last N layers of the base, too; layers without "
            "weights and BatchNormalization do not count and stay as they are.",
        ),
        click.option(
            "--fine-tune-lr",
            type=click.FloatRange(min=0, min_open=True),
            default=TrainingOptions.fine_tune_learning_rate,
            help="Learning rate of fine-tuning.",
        ),
        click.option(
            "--fine-tune-epochs",
            type=click.IntRange(min=1),
            default=TrainingOptions.fine_tune_epochs,
            help="Passes over the training pictures in fine-tuning at most.",
        ),
    )
