"""`fic bases`: the table of pretrained bases."""

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bases(as_json: bool) -> None:
    """List the pretrained bases.

    FEATURES is the width of the bottleneck, PARAMETERS the size of the base in millions. Start with
    a small base such as mobilenet_v2; a larger one is often a few points better.
    """
    from ..bases import BASES

    rows = [_row(base) for base in BASES.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    click.echo(f"{'NAME':<{width}}  INPUT  FEATURES  PARAMETERS")
    for row in rows:
        click.echo(
            f"{row['name']:<{width}}  {row['size']:>5}  {row['features']:>8}  "
            f"{row['parameters'] / 1e6:>8.1f} M"
        )


def _row(base: Any) -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(base)
    return {"name": row.pop("name"), **row}
