"""`fic predict` and `fic evaluate`."""

import csv
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fic_runtime.errors import printable

from ..options import BaseOptions
from .option_values import SectionedCommand, from_options
from .options import FOLDER, LOCATION, base_options, run_cache_option, verbose_option
from .terminal import TerminalProgress, report_files

if TYPE_CHECKING:
    from ..heads.standalone import HeadFile

_OF_A_HEAD_FILE = (
    *("label_file", "base_model", "weights", "image_size", "resize"),
    *("bottleneck_tensorname", "pooling", "pixels", "preprocessor"),
)


_HEADINGS = {
    "Pictures": ("img_dir",),
    "Output": ("top_k", "as_json", "as_csv", "verbose"),
    "Head in a file": ("weight_file", *_OF_A_HEAD_FILE),
}


@click.command(cls=SectionedCommand, headings=_HEADINGS)
@click.argument("paths", metavar="[RUN] [IMAGE|DIR]...", nargs=-1, type=FOLDER)
@click.option("--img-dir", type=FOLDER, metavar="DIR", help="Folder of pictures, as DIR.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, help="Labels per picture.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@verbose_option
@click.option(
    "--bottleneck-dir",
    type=LOCATION,
    metavar="DIR|URL",
    help="Folder or URL of the bottleneck cache.  [default: that of the run's training; with "
    "--weight-file: bottlenecks]",
)
@click.option(
    "--weight-file",
    type=FOLDER,
    metavar="FILE",
    help="Head saved by Keras (.keras or .h5), instead of RUN.",
)
@click.option(
    "--label-file",
    type=FOLDER,
    metavar="FILE",
    help="Labels of the head: a JSON object between label and index, a JSON list, or a text file.",
)
@partial(base_options, base_model=None)
@click.pass_context
def predict(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    img_dir: Path | None,
    top_k: int,
    as_json: bool,
    as_csv: bool,
    bottleneck_dir: Path | None,
    weight_file: Path | None,
    label_file: Path | None,
    **options: Any,
) -> None:
    """Classify pictures with a run, or with a head in a file.

    A run knows its labels and its base. A head in a file needs --label-file, --base-model and the
    options of the base as in its training. Pictures of a folder come in natural order: img2 before
    img10.

    \b
      fic predict run photo.jpg photos
      fic predict --weight-file top.h5 --label-file labels.json --base-model resnet50 photo.jpg
    """
    from fic_runtime.cli.answers import answer_json, answer_line, table_head, table_row
    from fic_runtime.errors import ImageError

    from ..prediction import predict_files

    run: Path | HeadFile
    if weight_file is None:
        run, images = _run_and_images(context, paths)
    else:
        run, images = _head_file(weight_file, label_file, options, paths), paths
    if img_dir is not None:
        images = (*images, img_dir)
    if not images:
        raise click.UsageError("Say which pictures: IMAGE, DIR or --img-dir.")
    if as_json and as_csv:
        raise click.UsageError("Give either --json or --csv.")
    table = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        table.writerow(table_head(top_k=top_k))
    failed = False
    answers = predict_files(run, images, bottleneck_dir=bottleneck_dir)
    for path, answer in answers:
        if isinstance(answer, ImageError):
            failed = True
            click.echo(f"fic: {answer}", err=True)
        if as_csv:
            table.writerow(table_row(path, answer, top_k=top_k))
        elif as_json:
            click.echo(answer_json(path, answer, top_k=top_k))
        elif not isinstance(answer, ImageError):
            click.echo(answer_line(path, answer, top_k=top_k))
    report_files(answers.files)
    if failed:
        context.exit(1)


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--data",
    type=LOCATION,
    required=True,
    metavar="DIR|CSV|URL",
    help="Folder with one sub-folder of pictures per class, or a CSV file; of a CSV file with the "
    "column split, the pictures marked val. Classes may be missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@verbose_option
@run_cache_option
def evaluate(run: Path, data: Path, as_json: bool, bottleneck_dir: Path | None) -> None:
    """Measure the accuracy of a run on labeled pictures.

    Give pictures that it was not trained on; those of its training say little.

    \b
      fic evaluate run --data new-photos
    """
    from fic_runtime.cli.answers import json_line

    from ..prediction import evaluate_run

    metrics = evaluate_run(run, data, bottleneck_dir=bottleneck_dir, progress=TerminalProgress())
    if as_json:
        click.echo(json_line(metrics))
        return
    click.echo(f"accuracy {metrics['accuracy']:.4f}  top-5 {metrics['top_5']:.4f}")
    width = max(len(printable(label)) for label in metrics["per_class"])
    click.echo(f"{'CLASS':<{width}}  IMAGES  PRECISION  RECALL")
    for label, figures in metrics["per_class"].items():
        precision, recall = (
            "-" if figures[name] is None else f"{figures[name]:.4f}"
            for name in ("precision", "recall")
        )
        name = printable(label)
        click.echo(f"{name:<{width}}  {figures['images']:>6}  {precision:>9}  {recall:>6}")


def _run_and_images(
    context: click.Context, paths: tuple[Path, ...]
) -> tuple[Path, tuple[Path, ...]]:
    for name in _OF_A_HEAD_FILE:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} goes with --weight-file; a run knows its own."
            )
    if not paths:
        raise click.UsageError("Give a RUN, or --weight-file, --label-file and --base-model.")
    return paths[0], paths[1:]


def _head_file(
    weight_file: Path, label_file: Path | None, options: dict[str, Any], paths: tuple[Path, ...]
) -> "HeadFile":
    from ..heads.standalone import HeadFile
    from ..runs import RUN_FILE

    if paths and (paths[0] / RUN_FILE).exists():
        raise click.UsageError(f"{paths[0]} is a run: give either RUN or --weight-file.")
    if label_file is None:
        raise click.UsageError("--weight-file needs --label-file: the labels of the head.")
    if options["base_model"] is None:
        raise click.UsageError("--weight-file needs --base-model: the base of the head.")
    return HeadFile(weight_file, label_file, from_options(BaseOptions, options))
