"""`fic train` and `fic extract`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import CacheOptions, TrainingOptions
from .options import (
    FOLDER,
    SEED,
    base_options,
    cache_options,
    chosen_base,
    data_options,
    split_option,
)
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from ..source import Source


@click.command()
@data_options
@split_option
@base_options
@cache_options
@click.option(
    "--batch-size-train",
    type=click.IntRange(min=1),
    default=TrainingOptions.batch_size,
    help="Bottlenecks in one training step.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=TrainingOptions.epochs,
    help="Passes over the training bottlenecks at most.",
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=TrainingOptions.learning_rate,
    help="Learning rate of the Adam optimiser.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    default=TrainingOptions.weight_decay,
    help="Pull of the head's weights towards zero (L2).",
)
@click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=TrainingOptions.patience,
    help="Stop after so many epochs without a better validation loss; 0 never stops early.",
)
@click.option("--seed", type=SEED, default=0, help="Of the split, the head and the order.")
@click.option("--logs", type=FOLDER, help="Folder for TensorBoard events.")
@click.option("--out", type=FOLDER, default=Path("run"), help="Folder of the run.")
@click.option(
    "--weight-file",
    type=FOLDER,
    metavar="FILE",
    help="Save the head there as well: .keras, .h5, or .weights.h5 for its weights alone.",
)
@click.option(
    "--label-file",
    type=FOLDER,
    metavar="FILE.json",
    help="Save there which label has which index.",
)
def train(
    data: Path | None,
    train: Path | None,
    val: Path | None,
    val_split: float,
    batch_size_train: int,
    epochs: int,
    lr: float,
    weight_decay: float,
    patience: int,
    seed: int,
    logs: Path | None,
    out: Path,
    weight_file: Path | None,
    label_file: Path | None,
    **options: Any,
) -> None:
    """Train a classifier on pictures in folders or CSV files.

    The base turns each picture into a bottleneck once; the bottlenecks are kept in
    --bottleneck-dir, so training again with other options takes seconds. The run folder holds the
    head, the labels, the figures (metrics.json, history.csv) and report.html to look at.

    \b
      fic train --data photos --out run
      fic train --train photos/train --val photos/val --base-model resnet50 --epochs 20
    """
    from ..training import train as train_classifier

    progress = TerminalProgress()
    run = train_classifier(
        _source(data, train, val, val_split),
        out=out,
        base=chosen_base(options),
        cache=_cache_options(options),
        options=TrainingOptions(
            epochs=epochs,
            batch_size=batch_size_train,
            learning_rate=lr,
            weight_decay=weight_decay,
            patience=patience,
            seed=seed,
            logs=logs,
        ),
        progress=progress,
        weight_file=weight_file,
        label_file=label_file,
    )
    record, figures = run.record, run.metrics["val"]
    _print_skipped(record["skipped_files"])
    click.echo(
        f"validation accuracy {figures['accuracy']:.4f} on {figures['images']} pictures, "
        f"best epoch {record['best_epoch']}"
    )
    cache, seconds = record["cache"], record["seconds"]
    click.echo(
        f"{cache['extracted']} bottlenecks extracted in {seconds['extract']:.1f} s, "
        f"{cache['hits']} from the cache; head trained in {seconds['train']:.1f} s"
    )
    click.echo(f"run written to {out}; see {out / 'report.html'}, or `fic export {out}`")


@click.command()
@data_options
@base_options
@cache_options
@click.option(
    "--shard",
    metavar="I/N",
    help="Only the I-th of N parts of the pictures, so that N machines may share the work.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def extract(
    data: Path | None,
    train: Path | None,
    val: Path | None,
    shard: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Fill the bottleneck cache, and train nothing.

    With --views, all pictures of --data get all views, since any may be for training with one
    seed or another. Which part of --shard a picture belongs to depends on its content alone. To
    merge the caches of several machines, copy their shard files into one folder.
    """
    from ..bottlenecks import fill_cache

    use = fill_cache(
        _source(data, train, val),
        base=chosen_base(options),
        cache=_cache_options(options),
        shard=_shard(shard),
        progress=TerminalProgress(),
    )
    skipped = [{"file": str(each.path), "reason": each.reason} for each in use.skipped]
    if as_json:
        click.echo(json.dumps({**asdict(use), "skipped": skipped}, default=str))
        return
    _print_skipped(skipped)
    click.echo(
        f"{use.extracted} bottlenecks extracted in {use.seconds:.1f} s, {use.hits} from the cache"
    )


def _source(
    data: Path | None, train: Path | None, val: Path | None, val_split: float = 0.2
) -> "Source":
    from ..source import Source

    if (data is None) == (train is None) or (train is None) != (val is None):
        raise click.UsageError("Give either --data, or both --train and --val.")
    return Source(data=data, train=train, val=val, val_split=val_split)


def _cache_options(options: dict[str, Any]) -> CacheOptions:
    return CacheOptions(
        bottleneck_dir=options["bottleneck_dir"],
        batch_size=options["bottlenecks_batch_size"],
        engine=options["engine"],
        dtype=options["cache_dtype"],
        compression=options["cache_compression"],
        views=options["views"],
        on_error=options["on_error"],
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{text!r} is not I/N with 1 <= I <= N", param_hint="--shard")
    return int(part), int(parts)


def _print_skipped(skipped: list[dict[str, str]]) -> None:
    if not skipped:
        return
    click.echo(f"pictures skipped: {len(skipped)}", err=True)
    for each in skipped:
        click.echo(f"  {each['reason']}", err=True)
