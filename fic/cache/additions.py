"""The writing half of a cache, for many machines of which one knows what is there already."""

from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from ..data.remote import RemotePath, local
from ..fingerprint import Fingerprint
from ..options import Compression
from .keys import KeyIndex, Keys
from .locks import SharedLock
from .remote import ShardStore
from .shards import open_shard
from .writer import CacheWriter


class CacheAdditions:
    """Adds bottlenecks of one fingerprint to a cache directory without reading what it holds.

    Args:
        directory: the cache directory, local or at a URL.
        fingerprint: what the bottlenecks depend on.
        known: keys of the bottlenecks that are there.
        compression: how rows are stored.

    Raises:
        CacheError: the directory cannot be made or used.
    """

    def __init__(
        self, directory: Path, fingerprint: Fingerprint, known: Keys, compression: Compression
    ) -> None:
        self._fingerprint = fingerprint
        self._folder = local(directory) / fingerprint.folder_name
        self._compression: Compression = compression
        self._store = (
            ShardStore(directory, fingerprint) if isinstance(directory, RemotePath) else None
        )
        self._lock = SharedLock(self._folder)
        self._guard = RLock()
        self._index = KeyIndex()
        self._index.add(known, np.zeros(len(known), np.int64))

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return 0 for each key that is there, -1 where its bottleneck has to be extracted."""
        with self._guard:
            return self._index.find(keys)

    def writer(self) -> CacheWriter:
        """Return a writer, to be used in a `with` statement."""
        return CacheWriter(
            self._folder,
            self._fingerprint,
            self._compression,
            is_known=lambda keys: self.find(keys) >= 0,
            on_commit=self._committed,
        )

    def _committed(self, path: Path) -> None:
        keys = open_shard(path, self._fingerprint).keys
        if self._store is not None:
            self._store.put(path)
        with self._guard:
            self._index.add(keys, np.zeros(len(keys), np.int64))
