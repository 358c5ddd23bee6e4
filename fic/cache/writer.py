"""Bottlenecks into shards: gathered in memory, committed to disk."""

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CacheError
from ..fingerprint import Fingerprint
from ..options import Compression
from .keys import Keys, as_keys
from .shards import encode_rows, row_checksums, stored_dtype, write_shard

# A shard is committed when the first of these is reached: what a kill may cost, and the memory
# that a writer holds.
COMMIT_ROWS = 1024
COMMIT_BYTES = 64 << 20
COMMIT_SECONDS = 30.0


class CacheWriter:
    """Adds bottlenecks to a cache; made by `BottleneckCache.writer`.

    A shard is committed, which is to say on the disk for good, when 1024 bottlenecks or 64 MB are
    waiting, when the first of them has waited 30 s (looked at whenever some are added), and at the
    end of the `with` statement, also when it ends by an error or Ctrl-C.

    Attributes:
        committed: how many bottlenecks this writer has committed.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Fingerprint,
        compression: Compression,
        *,
        is_known: Callable[[Keys], NDArray[np.bool_]],
        on_commit: Callable[[Path], None],
    ) -> None:
        self.committed = 0
        self._folder = folder
        self._fingerprint = fingerprint
        self._compression: Compression = compression
        self._is_known = is_known
        self._on_commit = on_commit
        self._failed = False
        self._clear()

    def add(self, keys: Keys, features: NDArray[Any]) -> None:
        """Add bottlenecks (n, *shape) under keys (n,); those that are there are skipped.

        Raises:
            CacheError: the cache cannot be written, or a value cannot be stored; what was
                committed before is kept.
        """
        keys = as_keys(keys)
        shape = (len(keys), *self._fingerprint.shape)
        if features.shape != shape:
            raise ValueError(f"these keys need features of shape {shape}, not {features.shape}")
        candidates = np.flatnonzero(~self._is_known(keys)).tolist()
        first = {keys[index]: index for index in reversed(candidates)}
        fresh = sorted(first[key] for key in first.keys() - self._waiting_keys)
        while fresh or self._is_due():
            room = COMMIT_ROWS - self._count
            now, fresh = fresh[:room], fresh[room:]
            if now:
                self._append(keys[now], features[now])
            if self._is_due():
                self.commit()

    def commit(self) -> None:
        """Put what is waiting on the disk now.

        Raises:
            CacheError: the cache cannot be written; what was waiting is lost, nothing else.
        """
        if not self._waiting:
            return
        keys, checksums, rows = zip(*self._waiting, strict=True)
        self._clear()
        try:
            path = write_shard(
                self._folder,
                self._fingerprint,
                np.concatenate(keys),
                np.concatenate(checksums),
                list(chain.from_iterable(rows)),
                self._compression,
            )
        except OSError as error:
            self._failed = True
            raise CacheError(
                f"{self._folder}: cannot be written ({error.strerror}), {self.committed} new "
                "bottlenecks were committed before and are kept; make room or give another "
                "--bottleneck-dir, and run the command again to go on from there"
            ) from error
        self.committed += sum(map(len, keys))
        self._on_commit(path)

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._failed:
            self.commit()

    def _is_due(self) -> bool:
        return bool(self._waiting) and (
            self._count >= COMMIT_ROWS
            or self._bytes >= COMMIT_BYTES
            or time.monotonic() - self._since >= COMMIT_SECONDS
        )

    def _append(self, keys: Keys, features: NDArray[Any]) -> None:
        with np.errstate(over="ignore"):  # reported below, with the remedy
            stored = np.ascontiguousarray(features, stored_dtype(self._fingerprint))
        if features.any() and not stored.any():
            raise CacheError(
                f"{self._folder}: these bottlenecks are too small for "
                f"{self._fingerprint.dtype}, which would keep only zeros; use --cache-dtype float32"
            )
        features = stored
        if not np.isfinite(features).all():
            raise CacheError(
                f"{self._folder}: a bottleneck is not finite in {self._fingerprint.dtype}; use "
                "--cache-dtype float32, or other weights if that is in use"
            )
        if not self._waiting:
            self._since = time.monotonic()
        raw = features.reshape(len(features), -1).view(np.uint8)
        rows = encode_rows(features, self._compression)
        self._waiting_keys.update(keys.tolist())
        self._count += len(rows)
        self._bytes += sum(map(len, rows))
        # One append, so that Ctrl-C cannot part keys from rows.
        self._waiting.append((keys, row_checksums(keys, raw), rows))

    def _clear(self) -> None:
        self._waiting: list[tuple[Keys, NDArray[np.uint32], list[bytes]]] = []
        self._waiting_keys: set[bytes] = set()
        self._count = 0
        self._bytes = 0
        self._since = 0.0
