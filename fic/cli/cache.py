"""`fic cache`: maintenance of the bottleneck cache."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..options import CacheOptions
from .options import FOLDER, LOCATION, Number, add_options
from .terminal import TerminalProgress


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    return add_options(
        command,
        click.option(
            "--bottleneck-dir",
            type=FOLDER,
            metavar="DIR",
            default=CacheOptions.bottleneck_dir,
            help="Folder of the cache.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )


@click.group()
def cache() -> None:
    """Maintain the bottleneck cache.

    The cache only saves time: whatever is removed from it is extracted again when needed.
    To merge caches, copy the shard files of one folder into the folder of the same name.
    """


@cache.command()
@_common
def info(bottleneck_dir: Path, as_json: bool) -> None:
    """Show the contents of the cache, by base and preprocessing."""
    from ..cache.maintenance import cache_info

    entries = cache_info(bottleneck_dir)
    if as_json:
        _print_json(
            [{**asdict(entry), "fingerprint": entry.fingerprint.to_dict()} for entry in entries]
        )
        return
    for entry in entries:
        fingerprint = entry.fingerprint
        geometry = fingerprint.preprocessing.geometry
        shape = "x".join(map(str, fingerprint.shape))
        used = datetime.fromtimestamp(entry.used).astimezone()
        click.echo(entry.path.name)
        click.echo(f"  {entry.images} bottlenecks of {shape} {fingerprint.dtype}")
        click.echo(f"  pictures at {geometry.width}x{geometry.height}, {geometry.resize}")
        click.echo(
            f"  {entry.shards} shards, {_size(entry.bytes)}, last used {used:%Y-%m-%d %H:%M}"
        )
        if entry.duplicates:
            click.echo(f"  {entry.duplicates} second copies; `fic cache compact` drops them")
        for path in entry.damaged:
            aside = path.name.startswith("damaged-")
            remedy = "prune --damaged` removes it" if aside else "verify` sets it aside"
            click.echo(f"  damaged: {path.name}; `fic cache {remedy}")
    if not entries:
        click.echo(f"{bottleneck_dir} is empty")


@cache.command()
@_common
@click.pass_context
def verify(context: click.Context, bottleneck_dir: Path, as_json: bool) -> None:
    """Verify all checksums and set damaged shards aside.

    The exit code is 1 if there are any.
    """
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
    """Merge small shards and drop duplicates.

    The cache must not be in use.
    """
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
    type=Number(min=0),
    metavar="DAYS",
    help="Remove entries that were not used for this many days.",
)
@click.option("--fingerprint", multiple=True, metavar="NAME", help="Remove the entry of this name.")
@click.option("--damaged", is_flag=True, help="Remove damaged shards.")
@click.option(
    "--keep-data",
    type=LOCATION,
    metavar="DIR|CSV|URL",
    help="Remove the bottlenecks of all pictures outside this folder or CSV file, in all views.",
)
def prune(
    bottleneck_dir: Path,
    as_json: bool,
    unused_days: float | None,
    fingerprint: tuple[str, ...],
    damaged: bool,
    keep_data: Path | None,
) -> None:
    """Remove unneeded entries.

    \b
      fic cache prune --unused-days 90
      fic cache prune --keep-data photos
    """
    from ..bottlenecks.cached import kept_digests
    from ..cache.maintenance import prune_cache

    if unused_days is None and not fingerprint and not damaged and keep_data is None:
        raise click.UsageError(
            "Say what to remove: --unused-days, --fingerprint, --damaged or --keep-data."
        )
    progress = TerminalProgress()
    report = prune_cache(
        bottleneck_dir,
        keep=None
        if keep_data is None
        else kept_digests(
            keep_data, progress, memo=CacheOptions(bottleneck_dir=bottleneck_dir).memo
        ),
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
