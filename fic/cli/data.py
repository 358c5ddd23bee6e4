"""`fic split` and `fic data`: data sets on disk."""

from pathlib import Path
from typing import Literal

import click

from .options import FOLDER, split_option
from .terminal import TerminalProgress


@click.command()
@click.argument("dataset", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder for train/ and val/.")
@split_option
@click.option("--seed", type=int, default=0, help="Another seed gives another split.")
@click.option("--link", "mode", flag_value="link", default=True, help="Link to the files.")
@click.option("--copy", "mode", flag_value="copy", help="Copy the files.")
@click.option("--move", "mode", flag_value="move", help="Move the files.")
def split(
    dataset: Path,
    out: Path,
    val_split: float,
    seed: int,
    mode: Literal["link", "copy", "move"],
) -> None:
    """Split a folder of classes into training and validation.

    The side of a picture depends on its content and the seed alone, so it stays where it is when
    others are added, and copies of one picture are never on both sides. Nothing is deleted.
    `fic train --data` does the same split in memory.
    """
    from ..source import split_pictures
    from ..splitting import write_split

    parts = split_pictures(
        dataset,
        fraction=val_split,
        seed=seed,
        progress=TerminalProgress(),
    )
    write_split(parts, out, mode=mode)
    click.echo(f"{len(parts.train)} pictures in {out / 'train'}, {len(parts.val)} in {out / 'val'}")


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
    from ..downloads import fetch_dataset

    folder = fetch_dataset(name, out, progress=TerminalProgress())
    click.echo(f"{name} is in {folder}")
