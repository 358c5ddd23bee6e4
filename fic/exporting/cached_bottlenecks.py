"""Bottlenecks that a run was trained and validated on, as far as the cache still has them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import BottleneckCache
from ..cache.keys import make_keys
from ..cache.remote import open_cache
from ..data import Dataset, Source, read_pictures
from ..errors import CacheError, DataError
from ..progress import Progress, note_files
from ..runs import Run
from .whereabouts import recorded_source

# Pictures of each side at most, or ten of each class, but no more than fit in these bytes: what is
# measured on them hardly changes with more.
_PICTURES = 4000
_PER_CLASS = 10
_BYTES = 256 << 20
# Of validation pictures, whose probabilities are held: pictures by classes. In float64 they are
# 32 MB, among which the search for a temperature takes seconds.
_PROBABILITIES = 4_000_000
_BLOCK_BYTES = 32 << 20
_SEED = 20181124


@dataclass(frozen=True)
class CachedPart:
    """Cached bottlenecks of one side of a run's split, a sample of them where there are many.

    Attributes:
        cache: holds them.
        rows: their rows in the cache, (pictures,).
        targets: for each of them the index of its label in the labels of the run, (pictures,).
    """

    cache: BottleneckCache
    rows: NDArray[Any]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the bottlenecks, float32 (n, *bottleneck), some at a time."""
        step = max(1, _BLOCK_BYTES // (4 * int(np.prod(self.cache.fingerprint.shape))))
        for start in range(0, len(self.rows), step):
            yield self.cache.read(self.rows[start : start + step])


@dataclass(frozen=True)
class RunBottlenecks:
    """Both sides; close the cache when they have been read."""

    train: CachedPart
    val: CachedPart

    def close(self) -> None:
        """Close the cache."""
        self.train.cache.close()


def cached_bottlenecks(
    run: Run, progress: Progress, source: Source | None = None
) -> RunBottlenecks | str:
    """Find the bottlenecks of a run's pictures, and extract nothing.

    The pictures are read and split as in the training, so those that have changed since are left
    out.

    Args:
        run: the run.
        progress: hears of the reading, and of files that are left out.
        source: where the pictures are now, if they have moved.

    Returns:
        The bottlenecks, or in a few words why there are none.
    """
    source = source or recorded_source(run)
    try:
        seed = int(run.record["training"]["seed"])
    except (KeyError, TypeError, ValueError):
        source = None
    if source is None:
        return "run.json does not say what the run was trained on"
    try:
        pictures = read_pictures(
            source, memo=run.cache_options.memo, seed=seed, on_error="skip", progress=progress
        )
    except (DataError, CacheError) as error:
        return f"its pictures cannot be read: {error}"
    note_files(pictures.files, progress)
    cache = open_cache(run.cache_options.bottleneck_dir, run.frozen_base().fingerprint)
    features = cache.fingerprint.shape[-1]
    most = min(max(_PICTURES, _PER_CLASS * len(run.labels)), _BYTES // (4 * features))
    train = _part(cache, pictures.train, pictures.digests, run.labels, most)
    most = min(most, _PROBABILITIES // len(run.labels))
    val = _part(cache, pictures.val, pictures.digests, run.labels, most)
    if not len(train) or not len(val):
        cache.close()
        return (
            "its bottlenecks are not in the cache, where `fic train` leaves them unless it trains "
            "through the whole network"
        )
    return RunBottlenecks(train, val)


def _part(
    cache: BottleneckCache,
    part: Dataset,
    digests: Mapping[Path, bytes],
    labels: tuple[str, ...],
    most: int,
) -> CachedPart:
    rows = cache.find(make_keys((digests[path], 0) for path in part.paths))
    index = {label: number for number, label in enumerate(labels)}
    targets = np.array([index.get(part.labels[label], -1) for label in part.targets], np.int64)
    found = np.flatnonzero((rows >= 0) & (targets >= 0))
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(found))[:most])
    return CachedPart(cache, rows[found[chosen]], targets[found[chosen]])
