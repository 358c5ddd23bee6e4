"""`fic split` and `fic data`: data sets on disk."""

from pathlib import Path
from typing import Literal

import click

from .options import FOLDER, split_option
from .terminal import TerminalProgress


@click.command()
@click.argument("place", metavar="[DATASET]", type=FOLDER, required=False)
@click.option("--dataset", type=FOLDER, metavar="DIR|CSV", help="The same as DATASET.")
@click.option(
    "--out",
    type=FOLDER,
    help="Folder for train/ and val/.  [default: train_dir/ and val_dir/ in this folder]",
)
@split_option
@click.option("--seed", type=int, default=0, help="Another seed gives another split.")
@click.option("--link", "mode", flag_value="link", default=True, help="Link to the files.")
@click.option("--copy", "mode", flag_value="copy", help="Copy the files.")
@click.option("--move", "mode", flag_value="move", help="Move the files.")
def split(
    place: Path | None,
    dataset: Path | None,
    out: Path | None,
    val_split: float,
    seed: int,
    mode: Literal["link", "copy", "move"],
) -> None:
    """Split a data set into training and validation folders.

    DATASET is a folder with one sub-folder of pictures per class, or a CSV file with the columns
    path,label; with a third one, split (train or val), that decides instead of --val-split.

    The side of a picture depends on its content and the seed alone, so it stays where it is when
    others are added, and copies of one picture are never on both sides. Nothing is deleted.
    `fic train --data` does the same split in memory.
    """
    from ..data.source import split_pictures
    from ..data.split_folders import write_split

    if place is None:
        place, dataset = dataset, None
    if place is None or dataset is not None:
        raise click.UsageError("Give one data set: DATASET or --dataset.")
    parts = split_pictures(
        place,
        fraction=val_split,
        seed=seed,
        progress=TerminalProgress(),
    )
    if out is None:
        report = write_split(parts, Path(), mode=mode, train_name="train_dir", val_name="val_dir")
    else:
        report = write_split(parts, out, mode=mode)
    click.echo(f"{len(parts.train)} pictures in {report.train}, {len(parts.val)} in {report.val}")


@click.group()
def data() -> None:
    """Fetch a data set to try fic on."""


@data.command()
@click.argument("name", type=click.Choice(["flowers"]))
@click.option("--out", type=FOLDER, default=Path(), help="Folder in which to put it.")
def fetch(name: str, out: Path) -> None:
    """Download a data set; run again to go on after an interruption.

    flowers: 3670 photos of 5 kinds, 229 MB, Creative Commons BY.
    """
    from ..data.downloads import fetch_dataset

    folder = fetch_dataset(name, out, progress=TerminalProgress())
    click.echo(f"{name} is in {folder}")
