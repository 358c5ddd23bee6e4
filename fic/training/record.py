"""What `run.json` says of a training: enough to repeat it, and to find out why one differs."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fic_export.versions import made_with

from ..bottlenecks.cached import CacheUse
from ..data import Source
from ..fingerprint import Fingerprint
from ..options import BaseOptions, CacheOptions, TrainingOptions


def run_record(
    *,
    base: BaseOptions,
    fingerprint: Fingerprint,
    cache: CacheOptions,
    options: TrainingOptions,
    source: Source,
    images: Mapping[str, int],
    best_epoch: int,
    fine_tuning: Mapping[str, Any] | None,
    use: CacheUse,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the record of a training, ready for JSON; all paths in it are absolute.

    Args:
        images: how many were trained and validated on, by `train` and `val`.
        fine_tuning: what `fine_tune` says of itself; None if there was none.
        use: what the cache held and what had to be extracted.
        seconds: how long each step took, by its name.
    """
    return {
        "base": asdict(base.absolute()),
        "fingerprint": fingerprint.to_dict(),
        "bottlenecks": {**asdict(cache), "bottleneck_dir": str(cache.bottleneck_dir.absolute())},
        "training": asdict(options.resolved()),
        "source": asdict(source.absolute()),
        "images": dict(images),
        "best_epoch": best_epoch,
        "fine_tuning": fine_tuning,
        "cache": {"hits": use.hits, "extracted": use.extracted, "skipped": len(use.skipped)},
        "engine": use.engine,
        "skipped_files": [{"file": str(each.path), "reason": each.reason} for each in use.skipped],
        "seconds": dict(seconds),
        "versions": {
            "python": platform.python_version(),
            "fast-image-classification": version("fast-image-classification"),
            **made_with(),
        },
    }
