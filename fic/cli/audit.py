"""`fic audit`: what may be wrong with a data set, and the decisions about it."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fic_runtime.errors import printable

from ..options import BaseOptions, CacheOptions
from .option_values import SectionedCommand, from_options, parameters
from .options import FOLDER, base_options, cache_options
from .questions import ANSWER, PICTURES, asked, fold_options, picture_options
from .terminal import report_files

if TYPE_CHECKING:
    from ..insight.findings import Audit

_SHOWN = 5


@click.command(
    cls=SectionedCommand,
    headings={
        "Pictures": PICTURES,
        "Audit": ANSWER,
        "Decisions": ("apply",),
        "Base": parameters(BaseOptions),
        "Bottlenecks": parameters(CacheOptions),
    },
)
@picture_options
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder for the findings; with --apply the CSV file of the cleaned data set.  "
    "[default: audit]",
)
@fold_options
@click.option(
    "--apply",
    type=FOLDER,
    metavar="FILE.csv",
    help="A suspects.csv with decisions: write the data set that follows from them to --out.",
)
@base_options
@partial(cache_options, views=False)
def audit(out: Path | None, as_json: bool, apply: Path | None, **options: Any) -> None:
    """Find wrong labels, duplicates and other flaws of a data set.

    Looks at the cached bottlenecks and extracts those that are missing. Pictures that training
    and validation share come first. The folder --out gets report.html to look at, audit.json with
    all findings, and suspects.csv, which lists all pictures, the most suspect label first. Write
    reject, relabel (to the label in `suggested`) or the name of a class into its column
    `decision`; --apply makes a CSV data set of it. No picture is moved, changed or deleted.

    \b
      fic audit --data photos
      fic audit --apply audit/suspects.csv --out cleaned.csv
      fic train --data cleaned.csv
    """
    if apply is not None:
        if any(options[name] is not None for name in ("data", "train", "val")):
            raise click.UsageError("--apply needs no pictures; its file lists them.")
        if out is None:
            raise click.UsageError("--apply needs --out FILE.csv, for the cleaned data set.")
        _apply(apply, out, as_json=as_json)
        return
    from ..insight import audit as audit_pictures

    folder = Path("audit") if out is None else out
    found = audit_pictures(
        **asked(options),
        out=folder,
        base=from_options(BaseOptions, options),
        seed=options["seed"],
    )
    report_files(found.use.files)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    _print(found)
    click.echo(f"findings written to {folder}; decide in {folder / 'suspects.csv'}")


def _apply(decisions: Path, out: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from ..insight import apply_decisions

    if out.suffix.lower() != ".csv":
        raise click.UsageError(f"--out {out}: the name of a data set of one file ends in .csv.")
    applied = apply_decisions(decisions, out)
    if as_json:
        click.echo(json.dumps(asdict(applied)))
        return
    click.echo(
        f"{applied.kept} pictures kept, {applied.relabeled} relabeled, {applied.rejected} left "
        f"out; data set written to {out}"
    )


def _print(found: "Audit") -> None:
    pictures = sum(found.counts.values())
    _say(f"{pictures} pictures of {len(found.counts)} classes, base {found.base}")
    leaks = f", {len(found.leaks)} of them across the split" if found.leaks else ""
    _say(f"groups of duplicates: {len(found.duplicates)}{leaks}")
    _list(f"{group.kind}: {', '.join(map(str, group.paths))}" for group in found.duplicates)
    _say(f"labels likely wrong: {len(found.likely_wrong)}")
    _list(f"{each.path}: {each.label}, or {each.suggested}?" for each in found.likely_wrong)
    _say(f"pictures like no other: {len(found.outliers)}")
    _list(str(outlier.path) for outlier in found.outliers)
    for pair in [pair for pair in found.confusions if pair.merge][:_SHOWN]:
        first, second = pair.classes
        _say(f"{first} and {second} may be one class: {pair.share:.0%} taken for the other")
    if found.rare:
        _say(f"classes with few pictures: {', '.join(found.rare)}")
    _say(f"files that are not what they seem: {len(found.files)}")
    _list(problem.reason for problem in found.files)


def _list(findings: Iterable[str]) -> None:
    """Print the first findings, and how many more the report shows."""
    lines = list(findings)
    for line in lines[:_SHOWN]:
        _say(f"  {line}")
    if len(lines) > _SHOWN:
        _say(f"  and {len(lines) - _SHOWN} more")


def _say(text: str) -> None:
    # Names of files and classes may be anybody's, and hold what a terminal would obey.
    click.echo(printable(text))
