"""Record of a training in `run.json`: enough to repeat it, and to find out why one differs."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from fic_export.versions import made_with

from ..bottlenecks.cached import CacheUse
from ..data import Source
from ..fingerprint import Fingerprint
from ..options import BaseOptions, CacheOptions, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Pictures and options of a training."""

    source: Source
    base: BaseOptions
    cache: CacheOptions
    options: TrainingOptions


def run_record(
    request: TrainingRequest,
    *,
    fingerprint: Fingerprint,
    images: Mapping[str, int],
    best_epoch: int,
    fine_tuning: Mapping[str, Any] | None,
    use: CacheUse,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the record of a training, ready for JSON; all paths in it are absolute.

    Args:
        request: pictures and options.
        fingerprint: of the run's base.
        images: how many were trained and validated on, by `train` and `val`.
        best_epoch: number of the best epoch, 0 if there was none.
        fine_tuning: the record of `fine_tune`; None if there was none.
        use: use of the cache, the pictures that were skipped, and the files that were left out.
        seconds: how long each step took, by its name.
    """
    cache = request.cache
    return {
        "base": asdict(request.base.absolute()),
        "fingerprint": fingerprint.to_dict(),
        "bottlenecks": _cache_record(cache),
        "training": asdict(request.options.resolved()),
        "source": asdict(request.source.absolute()),
        "images": dict(images),
        "best_epoch": best_epoch,
        "fine_tuning": fine_tuning,
        "cache": {"hits": use.hits, "extracted": use.extracted, "skipped": len(use.skipped)},
        "engine": use.engine,
        **use.files_record(),
        "seconds": dict(seconds),
        "versions": {
            "python": platform.python_version(),
            "fast-image-classification": version("fast-image-classification"),
            **made_with(),
        },
    }


def _cache_record(cache: CacheOptions) -> dict[str, Any]:
    values = {**asdict(cache), "bottleneck_dir": str(cache.bottleneck_dir.absolute())}
    del values["ray"]  # where the work was done says nothing about its result
    return values
