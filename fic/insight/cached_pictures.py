"""All pictures of a data set with their bottlenecks in memory, for questions about the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..bases.opening import open_base
from ..bottlenecks.cached import Bottlenecks, CacheUse, prepare
from ..data import Source, read_pictures
from ..distributed import first_reading
from ..options import BaseOptions, CacheOptions
from ..progress import Progress
from .logistic import Floats, Ints

_BLOCK = 512  # feature maps in memory at once

Side = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True)
class CachedPictures:
    """The readable pictures of a data set, training before validation.

    Attributes:
        base: name of the base, as a run records it.
        paths: the files, as the source names them.
        targets: index of each one's class in `labels`, (n,).
        labels: the class names.
        sides: the side of the split that each is on.
        digests: of the content of each file.
        rows: the bottlenecks, float32 (n, width); a feature map counts as its mean.
        use: use of the cache, and the files that were skipped.
    """

    base: str
    paths: Sequence[Path]
    targets: Ints
    labels: tuple[str, ...]
    sides: Sequence[Side]
    digests: Mapping[Path, bytes]
    rows: Floats
    use: CacheUse

    def __len__(self) -> int:
        return len(self.paths)


def read_cached(
    source: Source,
    base: BaseOptions,
    cache: CacheOptions,
    progress: Progress,
    *,
    seed: int = 0,
) -> CachedPictures:
    """Read the pictures of a source and their bottlenecks, extracting what the cache lacks.

    Args:
        seed: of the split, as in a training.

    Raises:
        See `fic.training.pipeline.train`.
    """
    source.keep_apart(cache.bottleneck_dir)
    frozen = open_base(base, cache.bottleneck_dir, dtype=cache.dtype)
    reading = first_reading(frozen, source, cache, seed=seed)
    pictures = read_pictures(
        source,
        memo=cache.memo,
        seed=seed,
        on_error=cache.on_error,
        progress=progress,
        reader=reading,
    )
    train, val, use = prepare(pictures, frozen, cache, progress, reading)
    with train.cache:
        rows = np.concatenate([_plain_rows(train), _plain_rows(val)])
    return CachedPictures(
        base=frozen.name,
        paths=(*train.dataset.paths, *val.dataset.paths),
        targets=np.concatenate([train.targets, val.targets]).astype(np.int64),
        labels=train.labels,
        sides=[*_sides(train, "train"), *_sides(val, "val")],
        digests=pictures.digests,
        rows=rows,
        use=use,
    )


def _plain_rows(part: Bottlenecks) -> Floats:
    """Return the bottlenecks of the plain views, (n, width)."""
    rows = np.empty((len(part), part.shape[-1]), np.float32)
    for start in range(0, len(part), _BLOCK):
        block = range(start, min(start + _BLOCK, len(part)))
        rows[start : block.stop] = part.plain_rows(block)
    return rows


def _sides(part: Bottlenecks, side: Side) -> list[Side]:
    return [side for _ in range(len(part))]
