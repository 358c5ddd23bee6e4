"""`fic cache`: look after the bottleneck cache."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..options import CacheOptions
from .options import FOLDER, add_options
from .terminal import TerminalProgress


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    return add_options(
        command,
        click.option(
            "--bottleneck-dir",
            type=FOLDER,
            default=CacheOptions.bottleneck_dir,
            help="Folder of the cache.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    )


@click.group()
def cache() -> None:
    """Look after the bottleneck cache.

    The cache only saves time: whatever is removed from it is extracted again when it is needed.
    To merge caches, copy the shard files of one folder into the folder of the same name.
    """


@cache.command()
@_common
def info(bottleneck_dir: Path, as_json: bool) -> None:
    """Say what is in the cache: one entry per base and preprocessing."""
    from ..cache.maintenance import cache_info

    entries = cache_info(bottleneck_dir)
    if as_json:
        _print_json(
            [{**asdict(each), "fingerprint": each.fingerprint.to_dict()} for each in entries]
        )
        return
    for each in entries:
        fingerprint = each.fingerprint
        geometry = fingerprint.preprocessing.geometry
        shape = "x".join(map(str, fingerprint.shape))
        used = datetime.fromtimestamp(each.used).astimezone()
        click.echo(each.path.name)
        click.echo(f"  {each.images} bottlenecks of {shape} {fingerprint.dtype}")
        click.echo(f"  pictures at {geometry.width}x{geometry.height}, {geometry.resize}")
        click.echo(f"  {each.shards} shards, {_size(each.bytes)}, last used {used:%Y-%m-%d %H:%M}")
        if each.duplicates:
            click.echo(f"  {each.duplicates} second copies; `fic cache compact` drops them")
        for path in each.damaged:
            click.echo(f"  damaged: {path.name}; `fic cache prune --damaged` removes it")
    if not entries:
        click.echo(f"{bottleneck_dir} is empty")


@cache.command()
@_common
@click.pass_context
def verify(context: click.Context, bottleneck_dir: Path, as_json: bool) -> None:
    """Compare every checksum; damaged shards are set aside. Exit code 1 if there are any."""
    from ..cache.maintenance import verify_cache

    report = verify_cache(bottleneck_dir, progress=TerminalProgress())
    if as_json:
        _print_json(asdict(report))
    else:
        click.echo(f"{report.images} bottlenecks in {report.shards} shards compared")
        for path in report.damaged:
            click.echo(f"damaged: {path}")
    context.exit(1 if report.damaged else 0)


@cache.command()
@_common
def compact(bottleneck_dir: Path, as_json: bool) -> None:
    """Merge small shards and drop second copies; not while a training uses the cache."""
    from ..cache.maintenance import compact_cache

    report = compact_cache(bottleneck_dir, progress=TerminalProgress())
    if as_json:
        _print_json(asdict(report))
        return
    click.echo(
        f"{report.shards_before} shards became {report.shards_after}, {report.duplicates} second "
        f"copies dropped, {_size(report.bytes_before)} became {_size(report.bytes_after)}"
    )


@cache.command()
@_common
@click.option(
    "--unused-days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove the entries that no run has used for so long.",
)
@click.option("--fingerprint", multiple=True, metavar="NAME", help="Remove this entry.")
@click.option("--damaged", is_flag=True, help="Remove the shards that were set aside.")
@click.option(
    "--keep-data",
    type=FOLDER,
    metavar="DIR|CSV",
    help="Remove the bottlenecks of pictures that are not in this folder or CSV file any more, "
    "altered views included.",
)
def prune(
    bottleneck_dir: Path,
    as_json: bool,
    unused_days: float | None,
    fingerprint: tuple[str, ...],
    damaged: bool,
    keep_data: Path | None,
) -> None:
    """Remove what is not needed any more."""
    from ..bottlenecks.cached import kept_digests
    from ..cache.maintenance import prune_cache

    if unused_days is None and not fingerprint and not damaged and keep_data is None:
        raise click.UsageError(
            "Say what to remove: --unused-days, --fingerprint, --damaged or --keep-data."
        )
    progress = TerminalProgress()
    report = prune_cache(
        bottleneck_dir,
        keep=None if keep_data is None else kept_digests(keep_data, progress),
        unused_days=unused_days,
        fingerprints=fingerprint,
        damaged=damaged,
        progress=progress,
    )
    if as_json:
        _print_json(asdict(report))
        return
    click.echo(
        f"removed {len(report.folders)} entries, {len(report.files)} other files and "
        f"{report.images} single bottlenecks: {_size(report.bytes)}"
    )


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
