"""`fic bases`: the table of pretrained bases."""

import json
from typing import TYPE_CHECKING, Any

import click

from fic_runtime.errors import printable

if TYPE_CHECKING:
    from ..bases import Base
    from ..bases.figures import WeightsPlace


@click.command()
@click.argument("name", metavar="[NAME|FILE|hf://ORG/NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bases(name: str | None, as_json: bool) -> None:
    """List the pretrained bases, or show one in full.

    Of a base in a file, what it takes and gives is read from it: the outputs of an ONNX graph are
    what --bottleneck-tensorname may name.

    FEATURES is the width of the bottleneck, PARAMETERS the size of the base in millions, TOP-1 the
    published accuracy on ImageNet in percent, SPEED the pictures per second on a CPU relative to
    the default base, and WEIGHTS where those of ImageNet come from: a package of the package index
    or a download by Keras, and whether they are here already.

    \b
      fic bases
      fic bases efficientnet_lite0
      fic bases model.onnx
    """
    from ..bases import BASES, find_base
    from ..bases.files import is_file

    if name is not None and is_file(name):
        _print_file(name, as_json=as_json)
        return
    chosen = list(BASES.values()) if name is None else [find_base(name)]
    if as_json:
        rows = [_row(base) for base in chosen]
        click.echo(json.dumps(rows if name is None else rows[0], indent=2))
    elif name is None:
        _print_table(chosen)
    else:
        _print_one(chosen[0])


def _print_table(chosen: "list[Base]") -> None:
    from ..bases.figures import FIGURES, find_weights

    heads = ("NAME", "FAMILY", "INPUT", "FEATURES", "PARAMETERS", "TOP-1", "SPEED", "WEIGHTS")
    rows = [heads]
    for base in chosen:
        figures, weights = FIGURES[base.name], find_weights(base)
        rows.append(
            (
                base.name,
                figures.family,
                str(base.size),
                str(base.features),
                f"{base.parameters / 1e6:.1f} M",
                _number(figures.top1),
                _number(figures.speed),
                f"{weights.source}, here" if weights.here else weights.source,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            # Words to the left, numbers to the right.
            cell.ljust(width) if column in (0, 1, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def _print_one(base: "Base") -> None:
    from ..bases.figures import FIGURES, find_weights

    figures = FIGURES[base.name]
    pixels = base.pixels
    top1 = "unknown" if figures.top1 is None else f"{figures.top1} % top-1, as published"
    facts = {
        "family": figures.family,
        "constructor": " ".join(
            (base.constructor, *(f"{key}={value}" for key, value in base.arguments))
        ),
        "input": f"{base.size} x {base.size} pixels, at least {base.minimum_size}",
        "resize": base.resize,
        "pixels": f"{pixels.channel_order}, x * {_list(pixels.scale)}{_added(pixels.offset)}",
        "features": str(base.features),
        "parameters": f"{base.parameters:,}",
        "ImageNet": top1,
        "speed": _speed(base, figures.speed),
        "weights": _weights(base, find_weights(base)),
    }
    click.echo(base.name)
    for key, value in facts.items():
        click.echo(f"  {key:<12} {value}")


def _print_file(name: str, *, as_json: bool) -> None:
    from ..bases.facts import facts_of_file

    facts = facts_of_file(name)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(printable(facts["name"]))
    facts = {
        **facts,
        "input": " x ".join(map(str, facts["input"])),
        "outputs": ", ".join(facts.get("outputs", ())),
        "bytes": f"{facts['bytes']:,}",
        "weights": f"file, here: {facts['weights']['path']}",
    }
    for key, value in facts.items():
        if key != "name" and value:
            click.echo(printable(f"  {key:<12} {value}"))


def _weights(base: "Base", weights: "WeightsPlace") -> str:
    if weights.here:
        return f"{weights.source} {weights.name}, here: {weights.path}"
    if base.package is not None:
        return f"package {weights.name}, not installed: {base.package.command}"
    return f"download {weights.name}, once by Keras, to {weights.path}"


def _speed(base: "Base", speed: float | None) -> str:
    from ..bases.figures import REFERENCE

    if base.name == REFERENCE:
        return "1 on a CPU; that of all others is relative to it"
    return "unknown" if speed is None else f"{speed:g} times that of {REFERENCE} on a CPU"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _added(offset: tuple[float, ...]) -> str:
    if all(value <= 0 for value in offset):
        return f" - {_list(tuple(abs(value) for value in offset))}" if any(offset) else ""
    return f" + {_list(offset)}"


def _list(values: tuple[float, ...]) -> str:
    numbers = [f"{value:.6g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"


def _row(base: "Base") -> dict[str, Any]:
    from dataclasses import asdict

    from ..bases.figures import FIGURES, find_weights

    figures, weights = FIGURES[base.name], find_weights(base)
    own = asdict(base)
    del own["file"]  # no row of the table has one
    return {
        **own,
        "family": figures.family,
        "top1": figures.top1,
        "speed": figures.speed,
        "weights": {
            "source": weights.source,
            "name": weights.name,
            "path": None if weights.path is None else str(weights.path),
            "here": weights.here,
        },
    }
