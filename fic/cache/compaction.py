"""Compaction of shards, crash safe: a row is removed only once its copy is on the disk."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CacheError
from ..fingerprint import Fingerprint
from ..options import Compression
from .keys import Keys
from .rows import checked_pieces
from .shards import (
    DamagedShard,
    Shard,
    encode_rows,
    open_shard,
    row_checksums,
    set_aside,
    shard_paths,
    stored_dtype,
    write_shard,
)
from .writer import COMMIT_BYTES

log = logging.getLogger(__name__)

# Opening a shard costs 0.3 ms in every run to come, copying 1 MB of it about 2 ms once.
_SMALL_BYTES = 4 << 20
_MANY = 32

Mask = NDArray[np.bool_]


def merge_small_shards(folder: Path, fingerprint: Fingerprint) -> int:
    """Merge the small shards of a folder if they are many, and return how many they were.

    Each small run leaves a shard, and every run opens all of them. Large ones are left alone, so
    that no run copies more than some 100 MB. Whoever calls holds the folder exclusively.

    Raises:
        CacheError: the folder cannot be written; no row is lost.
        OSError: it cannot be read.
    """
    small = [path for path in shard_paths(folder) if path.lstat().st_size < _SMALL_BYTES]
    if len(small) < _MANY:
        return 0
    shards = []
    for path in small:
        try:
            shard = open_shard(path, fingerprint)
            for _ in checked_pieces(shard, fingerprint):
                pass
            shards.append(shard)
        except DamagedShard as error:
            set_aside(path, str(error))
    rewrite_shards(folder, fingerprint, list(zip(shards, first_copies(shards), strict=True)))
    log.info("%s: %d small shards merged", folder, len(shards))
    return len(shards)


def first_copies(shards: Sequence[Shard]) -> list[Mask]:
    """Return for each shard which of its rows hold a key for the first time."""
    if not shards:
        return []
    _, firsts = np.unique(np.concatenate([shard.keys for shard in shards]), return_index=True)
    counts = [len(shard.keys) for shard in shards]
    first = np.zeros(sum(counts), np.bool_)
    first[firsts] = True
    return np.split(first, np.cumsum(counts)[:-1])


def rewrite_shards(
    folder: Path, fingerprint: Fingerprint, shards: Sequence[tuple[Shard, Mask]]
) -> None:
    """Put the rows of `shards` that their masks keep into as few shards as possible.

    A shard's compression stays as it is. Whoever calls holds the folder exclusively.

    Raises:
        CacheError: the folder cannot be written, or a shard was damaged meanwhile; no row is lost.
    """
    kinds: tuple[Compression, ...] = ("none", "gzip")
    for compression in kinds:
        merger = _Merger(folder, fingerprint, compression)
        try:
            for shard, mask in shards:
                if _compression(shard) == compression:
                    merger.take(shard, mask)
            merger.flush()
        except OSError as error:
            raise CacheError(
                f"{folder}: cannot be rewritten ({error.strerror}), nothing is lost; make room "
                "and run the command again"
            ) from error
        except DamagedShard as error:
            raise CacheError(
                f"{folder}: a shard changed after it was verified ({error}), nothing is lost; "
                "check the disk and run the command again"
            ) from error


class _Merger:
    def __init__(self, folder: Path, fingerprint: Fingerprint, compression: Compression) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._compression: Compression = compression
        self._copied: list[Path] = []  # old shards of which every row was taken
        self._clear()

    def take(self, shard: Shard, mask: Mask) -> None:
        dtype, shape = stored_dtype(self._fingerprint), self._fingerprint.shape
        for rows, raw in checked_pieces(shard, self._fingerprint, np.flatnonzero(mask)):
            keys = shard.keys[rows]
            self._keys.append(keys)
            self._checksums.append(row_checksums(keys, raw))
            encoded = encode_rows(raw.view(dtype).reshape(-1, *shape), self._compression)
            self._rows += encoded
            self._bytes += sum(map(len, encoded))
            if self._bytes >= COMMIT_BYTES:
                self.flush()
        self._copied.append(shard.path)

    def flush(self) -> None:
        if self._rows:
            write_shard(
                self._folder,
                self._fingerprint,
                np.concatenate(self._keys),
                np.concatenate(self._checksums),
                self._rows,
                self._compression,
            )
        for path in self._copied:
            path.unlink()
        self._copied.clear()
        self._clear()

    def _clear(self) -> None:
        self._keys: list[Keys] = []
        self._checksums: list[NDArray[Any]] = []
        self._rows: list[bytes] = []
        self._bytes = 0


def _compression(shard: Shard) -> Compression:
    return "gzip" if shard.rows["size"].any() else "none"
