"""`fic train` and `fic extract`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..options import VAL_SPLIT, BaseOptions, CacheOptions, TrainingOptions
from .option_values import SectionedCommand, config_option, from_options
from .options import (
    FOLDER,
    base_options,
    cache_options,
    data_options,
    split_option,
    training_options,
    whole_network_options,
)
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from ..bottlenecks.single_reading import MakeExtraction
    from ..data import Source


@click.command(cls=SectionedCommand)
@data_options
@split_option
@base_options
@cache_options
@training_options
@whole_network_options
@config_option
@click.option("--out", type=FOLDER, metavar="DIR", default=Path("run"), help="Folder for the run.")
@click.option(
    "--weight-file",
    type=FOLDER,
    metavar="FILE",
    help="Additional file for the head: .keras, .h5, or .weights.h5 for its weights alone.",
)
@click.option(
    "--label-file",
    type=FOLDER,
    metavar="FILE.json",
    help="Additional file for the labels: a JSON object from label to index.",
)
@click.pass_context
def train(
    context: click.Context,
    /,
    data: Path | None,
    train: Path | None,
    val: Path | None,
    val_split: float,
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
      fic train --config run/run.json --out again
    """
    from ..training import train as train_classifier

    _check_whole_network(options)
    progress = TerminalProgress()
    run = train_classifier(
        _source(**_chosen_source(context), val_split=val_split),
        out=out,
        base=from_options(BaseOptions, options),
        cache=from_options(CacheOptions, options),
        options=from_options(TrainingOptions, options),
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
    if options["omit_bottlenecks"]:
        click.echo(f"head trained through the whole network in {seconds['train']:.1f} s")
    else:
        click.echo(
            f"{cache['extracted']} bottlenecks extracted in {seconds['extract']:.1f} s, "
            f"{cache['hits']} from the cache; head trained in {seconds['train']:.1f} s"
        )
    if record["fine_tuning"] is not None:
        _print_fine_tuning(record["fine_tuning"])
    click.echo(f"run written to {out}; see {out / 'report.html'}, or `fic export {out}`")


@click.command(cls=SectionedCommand)
@data_options
@base_options
@cache_options
@click.option(
    "--shard",
    metavar="I/N",
    help="Part I of N of the pictures, to share the work among N machines.",
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
    """Fill the bottleneck cache without training.

    With --views, all pictures of --data get all views, since any of them may be a training picture
    with another seed. The part of --shard that a picture belongs to depends on its content alone.
    To merge the caches of several machines, copy their shard files into one folder.
    """
    from ..bottlenecks import fill_cache

    extraction: MakeExtraction | None = None
    if options["ray"] is not None:
        if shard is not None:
            raise click.UsageError("--shard is for machines that do not know each other, or --ray.")
        from ..distributed import RayExtraction

        extraction = RayExtraction
    use = fill_cache(
        _source(data, train, val),
        base=from_options(BaseOptions, options),
        cache=from_options(CacheOptions, options),
        shard=_shard(shard),
        progress=TerminalProgress(),
        extraction=extraction,
    )
    skipped = [{"file": str(picture.path), "reason": picture.reason} for picture in use.skipped]
    if as_json:
        click.echo(json.dumps({**asdict(use), "skipped": skipped}, default=str))
        return
    _print_skipped(skipped)
    click.echo(
        f"{use.extracted} bottlenecks extracted in {use.seconds:.1f} s, {use.hits} from the cache"
    )


def _check_whole_network(options: dict[str, Any]) -> None:
    if options["omit_bottlenecks"] and options["views"] > 1:
        raise click.UsageError(
            "--views is for cached bottlenecks; with --omit-bottlenecks each epoch draws views of "
            "its own."
        )
    for name in ("create_bottleneck", "cache_dtype", "cache_compression", "ray"):
        if options["omit_bottlenecks"] and _is_given(name):
            raise click.UsageError(
                f"{_spelled(name)} is for the cache that --omit-bottlenecks omits."
            )
    for name in ("fine_tune_lr", "fine_tune_epochs"):
        if not options["fine_tune"] and _is_given(name):
            raise click.UsageError(f"{_spelled(name)} needs --fine-tune N.")


def _is_given(name: str) -> bool:
    """Return whether the command line itself gives an option, and not --config or a default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _print_fine_tuning(record: dict[str, Any]) -> None:
    before, after = (record[name]["accuracy"] for name in ("val_before", "val_after"))
    click.echo(
        f"{len(record['layers'])} layers of the base fine-tuned in {record['seconds']:.1f} s: "
        f"validation accuracy {before:.4f} before, {after:.4f} after"
        + ("" if record["kept"] else "; nothing was gained, so the base stays as it was")
    )


def _source(
    data: Path | None, train: Path | None, val: Path | None, *, val_split: float = VAL_SPLIT
) -> "Source":
    from ..data import Source

    try:
        return Source(data=data, train=train, val=val, val_split=val_split)
    except ValueError as error:
        raise click.UsageError("Give either --data, or both --train and --val.") from error


def _chosen_source(context: click.Context) -> dict[str, Any]:
    """Return where the pictures are; what is given beside --config is not mixed with it."""
    names = ("data", "train", "val")
    given = {
        name
        for name in names
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP
        and context.params[name] is not None
    }
    return {name: context.params[name] if not given or name in given else None for name in names}


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
    for picture in skipped:
        click.echo(f"  {picture['reason']}", err=True)
