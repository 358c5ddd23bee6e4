"""`fic predict` and `fic evaluate`."""

import json
from pathlib import Path

import click

from .options import FOLDER, run_cache_option
from .terminal import TerminalProgress


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("images", metavar="IMAGE|DIR...", nargs=-1, required=True, type=FOLDER)
@click.option("--top-k", type=click.IntRange(min=1), default=1, help="Labels for each picture.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@run_cache_option
@click.pass_context
def predict(
    context: click.Context,
    run: Path,
    images: tuple[Path, ...],
    top_k: int,
    as_json: bool,
    bottleneck_dir: Path | None,
) -> None:
    """Classify pictures with a run, files before export.

    Pictures of a folder come in natural order: img2 before img10.
    """
    from fic_runtime.answers import answer_json, answer_line
    from fic_runtime.errors import ImageError

    from ..prediction import predict_files

    failed = False
    for path, answer in predict_files(run, images, bottleneck_dir=bottleneck_dir):
        if isinstance(answer, ImageError):
            failed = True
            click.echo(f"fic: {answer}", err=True)
        if as_json:
            click.echo(answer_json(path, answer, top_k=top_k))
        elif not isinstance(answer, ImageError):
            click.echo(answer_line(path, answer, top_k=top_k))
    if failed:
        context.exit(1)


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--data",
    type=FOLDER,
    required=True,
    help="Folder with one sub-folder of pictures per class; classes may be missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@run_cache_option
def evaluate(run: Path, data: Path, as_json: bool, bottleneck_dir: Path | None) -> None:
    """Measure a run on pictures whose classes are known."""
    from ..prediction import evaluate_run

    metrics = evaluate_run(run, data, bottleneck_dir=bottleneck_dir, progress=TerminalProgress())
    if as_json:
        click.echo(json.dumps(metrics, ensure_ascii=False))
        return
    click.echo(f"accuracy {metrics['accuracy']:.4f}  top-5 {metrics['top_5']:.4f}")
    width = max(len(label) for label in metrics["per_class"])
    click.echo(f"{'CLASS':<{width}}  IMAGES  PRECISION  RECALL")
    for label, figures in metrics["per_class"].items():
        precision, recall = (
            "-" if figures[name] is None else f"{figures[name]:.4f}"
            for name in ("precision", "recall")
        )
        click.echo(f"{label:<{width}}  {figures['images']:>6}  {precision:>9}  {recall:>6}")
