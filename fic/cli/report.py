"""`fic report`: the page of a run."""

import json
from pathlib import Path

import click

from .options import FOLDER, run_cache_option


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--out",
    type=FOLDER,
    metavar="FILE.html",
    help="File for the page.  [default: report.html in RUN]",
)
@click.option("--json", "as_json", is_flag=True, help="Print its main figures as one JSON object.")
@run_cache_option
def report(run: Path, out: Path | None, as_json: bool, bottleneck_dir: Path | None) -> None:
    """Write the report of a run again, with what is still there.

    It shows accuracy, confusions, confidence and pictures, in one file of at most 2 MB that asks
    the network for nothing. `fic train` writes the same page.

    \b
      fic report run
      fic report run --out flowers.html
    """
    from ..insight import report as write_report
    from ..runs import Run
    from ..runs.figures import report_figures

    file = write_report(run, out=out, bottleneck_dir=bottleneck_dir)
    if as_json:
        click.echo(json.dumps({"report": str(file), **report_figures(Run(run).results())}))
        return
    click.echo(f"report written to {file}")
