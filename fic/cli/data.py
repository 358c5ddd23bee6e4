"""`fic split` and `fic data`: data sets on disk."""

from pathlib import Path
from typing import Literal

import click

from ..options import CacheOptions
from .options import FOLDER, split_option, verbose_option
from .terminal import TerminalProgress, report_files


@click.command()
@click.argument("path", metavar="[DATASET]", type=FOLDER, required=False)
@click.option("--dataset", type=FOLDER, metavar="DIR|CSV", help="Data set, as DATASET.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder for train/ and val/.  [default: train_dir/ and val_dir/ in this folder]",
)
@split_option
@click.option("--seed", type=int, default=0, help="Random seed for the split.")
@click.option("--link", "mode", flag_value="link", default=True, help="Link to the pictures.")
@click.option("--copy", "mode", flag_value="copy", help="Copy the pictures.")
@click.option("--move", "mode", flag_value="move", help="Move the pictures.")
@click.option(
    "--bottleneck-dir",
    type=FOLDER,
    metavar="DIR",
    default=CacheOptions.bottleneck_dir,
    help="Folder of the bottleneck cache, if there is one: it knows the content of pictures.",
)
@verbose_option
def split(
    path: Path | None,
    dataset: Path | None,
    out: Path | None,
    val_split: float,
    seed: int,
    mode: Literal["link", "copy", "move"],
    bottleneck_dir: Path,
) -> None:
    """Split a data set into training and validation folders.

    DATASET is a folder with one sub-folder of pictures per class, or a CSV file with the columns
    path,label; a third column, split (train or val), replaces --val-split.

    The side of a picture depends on its content and the seed alone, so it stays the same when
    pictures are added, and copies of one picture are always on one side. Nothing is deleted.
    `fic train --data` splits in the same way, in memory.

    \b
      fic split photos --out parts
      fic train --train parts/train --val parts/val
    """
    from ..data.source import split_pictures
    from ..data.split_folders import check_movable, write_split

    if path is None:
        path, dataset = dataset, None
    if path is None or dataset is not None:
        raise click.UsageError("Give one data set: DATASET or --dataset.")
    parts = split_pictures(
        path,
        fraction=val_split,
        seed=seed,
        progress=TerminalProgress(),
        memo=_memo(bottleneck_dir),
    )
    report_files(parts.files)
    if mode == "move" and not path.is_dir():
        check_movable(parts, path.parent)
    if out is None:
        report = write_split(parts, Path(), mode=mode, train_name="train_dir", val_name="val_dir")
    else:
        report = write_split(parts, out, mode=mode)
    click.echo(f"{len(parts.train)} pictures in {report.train}, {len(parts.val)} in {report.val}")


def _memo(bottleneck_dir: Path) -> Path | None:
    """Return the cache's memo of digests; a split makes no cache where there is none."""
    return CacheOptions(bottleneck_dir=bottleneck_dir).memo if bottleneck_dir.is_dir() else None


def _names() -> list[str]:
    from ..data.downloads import DATASETS

    return list(DATASETS)


def _check_name(context: click.Context, parameter: click.Parameter, name: str) -> str:
    # Not as the type of the argument: the table is read only when it is needed.
    return click.Choice(_names()).convert(name, parameter, context)


def _complete_name(context: click.Context, parameter: click.Parameter, start: str) -> list[str]:
    return [name for name in _names() if name.startswith(start)]


@click.group()
def data() -> None:
    """Download example data sets."""


@data.command()
@click.argument("name", callback=_check_name, shell_complete=_complete_name)
@click.option(
    "--out", type=FOLDER, metavar="DIR", default=Path(), help="Parent folder of the data set."
)
def fetch(name: str, out: Path) -> None:
    """Download a data set, or resume an interrupted download.

    flowers: 3670 photos of 5 kinds, 229 MB, Creative Commons BY.
    """
    from ..data.downloads import fetch_dataset

    folder = fetch_dataset(name, out, progress=TerminalProgress())
    click.echo(f"{name} is in {folder}")
