"""`fic train` and `fic extract`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fic_runtime.errors import printable

from ..options import BaseOptions, CacheOptions, TrainingOptions
from .option_values import (
    SectionedCommand,
    check_trust,
    config_option,
    from_options,
    trust_option,
)
from .options import (
    FOLDER,
    base_options,
    cache_options,
    data_options,
    given_source,
    split_option,
    training_options,
    verbose_option,
    whole_network_options,
)
from .terminal import TerminalProgress, report_files, report_skipped, report_use

if TYPE_CHECKING:
    from fic_runtime.images.picture_files import FileUse

    from ..bottlenecks.single_reading import MakeExtraction


_LABELS_SHOWN = 10  # of the classes on the line that sums up a training


@click.command(cls=SectionedCommand)
@data_options
@split_option
@base_options
@cache_options
@training_options
@whole_network_options
@config_option
@trust_option
@verbose_option
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

    options = check_trust(context, options)
    _check_whole_network(options)
    progress = TerminalProgress()
    run = train_classifier(
        given_source(**_chosen_source(context), val_split=val_split),
        out=out,
        base=from_options(BaseOptions, options),
        cache=from_options(CacheOptions, options),
        options=from_options(TrainingOptions, options),
        progress=progress,
        weight_file=weight_file,
        label_file=label_file,
    )
    record, figures = run.record, run.metrics["val"]
    report_skipped([each["reason"] for each in record["skipped_files"]])
    report_files(_files_of(record))
    click.echo(_used(run.labels, record["images"]))
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
@verbose_option
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

    \b
      fic extract --data photos
      fic extract --data photos --shard 1/4      # on the first of four machines
    """
    from ..bottlenecks import fill_cache

    extraction: MakeExtraction | None = None
    if options["ray"] is not None:
        if shard is not None:
            raise click.UsageError("--shard is for machines that do not know each other, or --ray.")
        from ..distributed import RayExtraction

        extraction = RayExtraction
    use = fill_cache(
        given_source(data, train, val),
        base=from_options(BaseOptions, options),
        cache=from_options(CacheOptions, options),
        shard=_shard(shard),
        progress=TerminalProgress(),
        extraction=extraction,
    )
    report_use(use)
    if as_json:
        record = use.files_record()
        counts = {name: getattr(use, name) for name in ("hits", "extracted", "engine", "seconds")}
        skipped = record.pop("skipped_files")
        click.echo(json.dumps({**counts, "skipped": skipped, **record}))
        return
    click.echo(
        f"{use.extracted} bottlenecks extracted in {use.seconds:.1f} s, {use.hits} from the cache"
    )


def _used(labels: Sequence[str], images: Mapping[str, int]) -> str:
    """Say what was trained on: folders of years in place of classes are seen here at once."""
    names = ", ".join(map(printable, labels[:_LABELS_SHOWN]))
    if len(labels) > _LABELS_SHOWN:
        names += f" and {len(labels) - _LABELS_SHOWN} more"
    return (
        f"{len(labels)} classes: {names}; "
        f"{images['train']} pictures for training, {images['val']} for validation"
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


def _files_of(record: Mapping[str, Any]) -> "FileUse":
    from fic_runtime.images.picture_files import FileUse, LeftOut

    return FileUse(
        record["files"]["used"],
        tuple(map(Path, record["files_by_content"])),
        tuple(LeftOut(Path(each["file"]), each["kind"]) for each in record["left_out_files"]),
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{text!r} is not I/N with 1 <= I <= N", param_hint="--shard")
    return int(part), int(parts)
