"""`fic tune` and `fic compare`: which head, which base, and whether more photos would help."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import BaseOptions, CacheOptions, TrainingOptions
from .option_values import SectionedCommand, from_options, parameters
from .options import FOLDER, base_options, cache_options
from .questions import ANSWER, PICTURES, asked, fold_options, picture_options
from .terminal import report_use

if TYPE_CHECKING:
    from ..insight.comparison import Comparison
    from ..insight.trials import Tuning


@click.command(
    cls=SectionedCommand,
    headings={
        "Pictures": PICTURES,
        "Tuning": ANSWER,
        "Base": parameters(BaseOptions),
        "Bottlenecks": parameters(CacheOptions),
    },
)
@picture_options
@click.option("--out", type=FOLDER, metavar="DIR", default=Path("run"), help="Folder for the run.")
@click.option(
    "--learning-curve",
    is_flag=True,
    help="Also measure what fewer photos give, and say what twice as many would.",
)
@fold_options
@base_options
@partial(cache_options, views=False)
def tune(out: Path, learning_curve: bool, as_json: bool, **options: Any) -> None:
    """Choose head and weight decay by cross-validation, and train.

    Tries linear heads and heads with a hidden layer, with more and less weight decay, on the
    cached bottlenecks. Each is measured on pictures that neither trained it nor decided when to
    stop. Of those within one standard error of the best the simplest is taken. The run is like
    one of `fic train`; run.json says under `tuning` what was tried, and tuning.html shows it.

    \b
      fic tune --data photos
      fic tune --data photos --learning-curve
      fic export run
    """
    from ..insight import tune as tune_heads

    found = tune_heads(
        **asked(options),
        out=out,
        base=from_options(BaseOptions, options),
        options=TrainingOptions(seed=options["seed"]),
        learning_curve=learning_curve,
    )
    report_use(found.use)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), **found.use.files_record()}))
        return
    _print_tuning(found)
    click.echo(f"run written to {out}; see {out / 'tuning.html'}, or `fic export {out}`")


def _print_tuning(found: "Tuning") -> None:
    click.echo(f"{'head':<10}{'weight decay':>14}{'accuracy':>12}{'± standard error':>18}")
    for each in found.tried:
        mark = "  <- chosen" if each == found.chosen else ""
        click.echo(
            f"{each.candidate.head:<10}{each.candidate.weight_decay:>14g}{each.accuracy:>12.2%}"
            f"{each.standard_error:>18.2%}{mark}"
        )
    if found.curve is not None:
        for point in found.curve.points:
            click.echo(f"{point.pictures:>8.0f} training pictures: {point.accuracy:.2%}")
        click.echo(found.curve.sentence())
    click.echo(
        f"{len(found.tried)} heads in {len(found.chosen.folds)} folds in {found.seconds:.1f} s"
    )


def _names(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"{text!r} names nothing between two commas")
    if len(set(names)) < 2:
        raise click.BadParameter("give at least two bases, separated by commas")
    return names


@click.command(
    cls=SectionedCommand,
    headings={
        "Pictures": PICTURES,
        "Comparison": ("base_models", *ANSWER),
        "Bottlenecks": parameters(CacheOptions),
    },
)
@click.option(
    "--base-models",
    required=True,
    metavar="NAME,NAME…",
    callback=_names,
    help="Bases to compare, separated by commas; `fic bases` lists them.",
)
@picture_options
@click.option(
    "--out",
    type=FOLDER,
    metavar="FILE.html",
    default=Path("comparison.html"),
    help="File for a page with the plot.",
)
@fold_options
@partial(cache_options, views=False)
def compare(base_models: list[str], out: Path, as_json: bool, **options: Any) -> None:
    """Compare bases on your pictures by accuracy, speed and size.

    Extracts the bottlenecks that the cache lacks, trains the default head in the same folds on
    each base, and times the runtime on this machine. Recommends the quickest of the bases that
    cannot be told from the most accurate one, by McNemar's test on the pictures that only one of
    two gets right.

    \b
      fic compare --data photos --base-models efficientnet_lite0,mobilenet_v2_0.35
    """
    from ..insight import compare as compare_bases

    if out.suffix.lower() != ".html":
        raise click.UsageError(f"--out {out}: the name of a page ends in .html.")
    found = compare_bases(
        **asked(options),
        base_models=base_models,
        out=out,
        options=TrainingOptions(seed=options["seed"]),
    )
    report_use(found.use)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), **found.use.files_record()}))
        return
    _print_comparison(found)
    click.echo(f"page written to {out}")


def _print_comparison(found: "Comparison") -> None:
    from ..insight.comparing_page import verdict

    width = max(len(row.base) for row in found.rows) + 2
    click.echo(
        f"{'base':<{width}}{'accuracy':>16}{'ms a picture':>14}{'images/s':>10}{'bundle':>10}"
    )
    for row in found.rows:
        said = "" if row is found.rows[0] else verdict(alike=row.alike, p=row.chance)
        accuracy = f"{row.accuracy:.1%} ± {row.standard_error:.1%}"
        click.echo(
            f"{row.base:<{width}}{accuracy:>16}{row.milliseconds:>14.1f}"
            f"{row.images_per_second:>10.0f}{row.bundle_bytes / 1e6:>7.1f} MB  {said}".rstrip()
        )
    click.echo(f"recommended: {found.reason}")
