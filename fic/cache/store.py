"""Bottlenecks on disk, found by the content of the picture: each is extracted once, ever.

`docs/reference/cache-format.md` describes the folder and the files, and why they are as they are.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fic_runtime.reading import read_regular

from ..errors import CacheError
from ..fingerprint import Fingerprint
from ..options import Compression
from .compaction import merge_small_shards
from .keys import KeyIndex, Keys, as_keys
from .locks import SharedLock, alone, new_temporary, publish, remove_abandoned_temporaries
from .rows import PIECE_BYTES, ShardFiles, check_rows
from .shards import (
    ROW,
    DamagedShard,
    Shard,
    open_shard,
    row_size,
    set_aside,
    shard_paths,
    stored_dtype,
)
from .writer import CacheWriter

log = logging.getLogger(__name__)

FINGERPRINT_FILE = "fingerprint.json"
MOST_DESCRIPTION_BYTES = 1 << 16  # bytes of that file


class BottleneckCache:
    """The bottlenecks of one fingerprint in a cache directory.

    A row is found by its key and stays valid as long as this object. Any number of processes may
    read and fill one cache at the same time. Methods may be called from several threads, one of
    them writing. Close it, or use it in a `with` statement, so that it can be compacted.

    Args:
        directory: the cache directory; all fingerprints share it. Made if it does not exist.
        fingerprint: what the bottlenecks depend on.
        compression: how rows that are written now are stored. `gzip` saves 40 to 70 % of a
            feature map and makes it ten times slower to read.

    Raises:
        CacheError: the directory cannot be made or read.
    """

    def __init__(
        self,
        directory: Path | str,
        fingerprint: Fingerprint,
        *,
        compression: Compression = "none",
    ) -> None:
        if compression not in get_args(Compression):
            raise ValueError(f"unknown compression {compression!r}")
        self.fingerprint = fingerprint
        self.folder = Path(directory) / fingerprint.folder_name
        self.compression: Compression = compression
        self._lock = SharedLock(self.folder)
        self._guard = RLock()
        self._has_grown = False
        self._files = ShardFiles()
        self._index = KeyIndex()
        self._paths: list[str] = []  # an empty string for a shard that is not used any more
        self._damaged: set[str] = set()  # which a read-only cache still holds under their names
        self._starts = np.zeros(1, np.int64)  # first row of each shard, and one past the last
        self._rows = np.zeros(0, ROW)
        self._verified = np.zeros(0, np.bool_)
        try:
            _describe(self.folder, fingerprint)
            remove_abandoned_temporaries(self.folder)
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """How many bottlenecks this object knows of."""
        with self._guard:
            return len(self._index)

    def refresh(self) -> None:
        """Take in the shards that other processes have committed or removed since.

        Raises:
            CacheError: the folder cannot be read.
        """
        with self._guard:
            try:
                present = {str(path): path for path in self._present_shards()}
                for owner in self._live_owners():
                    if self._paths[owner] not in present:
                        self._forget(owner)
                known = self._damaged.union(self._paths)
                self._adopt(
                    [path for name, path in present.items() if name not in known], verified=False
                )
            except OSError as error:
                raise CacheError(
                    f"{error.filename or self.folder}: cannot be read ({error.strerror}); "
                    "check its permissions or give another --bottleneck-dir"
                ) from error

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the row of each key, int64 (n,), -1 where its bottleneck has to be extracted.

        Compares the checksum of each row when it is found for the first time. A shard with a row
        that fails is set aside with a warning, and its bottlenecks are missing from then on.

        Raises:
            CacheError: a shard cannot be read, although it is not damaged.
        """
        keys = as_keys(keys)
        with self._guard:
            rows = self._index.find(keys)
            while damaged := self._verify(rows[rows >= 0]):
                for owner, reason in damaged.items():
                    self._set_aside(Path(self._paths[owner]), reason)
                    self._forget(owner)
                rows = self._index.find(keys)
            return rows

    def read(
        self, rows: NDArray[np.int64], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the bottlenecks at rows that `find` gave: float32 (n, *shape), in their order.

        Args:
            out: filled and returned instead of a new array; C-contiguous.

        Raises:
            IndexError: a row is missing, -1 among them.
            CacheError: a shard was removed or damaged after its rows were found.
        """
        rows = np.asarray(rows, np.int64)
        shape = (len(rows), *self.fingerprint.shape)
        if out is None:
            out = np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"out has to be a C-contiguous float32 array of shape {shape}")
        with self._guard:
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(self._rows)):
                raise IndexError(f"rows go from 0 to {len(self._rows) - 1}; -1 is a missing one")
            try:
                self._read(rows, out)
            except (DamagedShard, OSError) as error:
                raise CacheError(
                    f"{self.folder}: changed while in use ({error}); run the command again, it "
                    "extracts what is missing"
                ) from error
        return out

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Let the system read rows ahead that `read` will soon be asked for, if it can."""
        with self._guard, suppress(OSError, DamagedShard):  # which the reading will tell of
            self._files.announce_rows(
                self._paths, self._owners(rows), self._rows[rows], row_size(self.fingerprint)
            )

    def shard_of(self, row: int) -> Path:
        """Return the file that holds a row."""
        return Path(self._paths[int(self._owners(np.array([row]))[0])])

    def writer(self) -> "CacheWriter":
        """Return a writer, to be used in a `with` statement."""
        return CacheWriter(
            self.folder,
            self.fingerprint,
            self.compression,
            is_known=self._is_known,
            on_commit=self._take_in,
        )

    def close(self) -> None:
        """Close all files and let the cache be compacted.

        Where this object has added to many small shards, and nobody else uses them, they are
        merged now, for the runs to come.
        """
        self._files.close()
        self._lock.release()
        if self._has_grown:
            self._has_grown = False
            self._merge()

    def _merge(self) -> None:
        try:
            with alone(self.folder) as is_alone:
                if is_alone:
                    merge_small_shards(self.folder, self.fingerprint)
        except (CacheError, OSError) as error:  # as it was before, only slower to open
            log.info("%s: small shards are not merged (%s)", self.folder, error)

    def __enter__(self) -> "BottleneckCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keys(self) -> Keys:
        """Return all keys that this object knows of: S20 (n,), some of them more than once."""
        with self._guard:
            return self._index.keys

    def _present_shards(self) -> list[Path]:
        return shard_paths(self.folder)

    def _open_shard(self, path: Path) -> Shard:
        return open_shard(path, self.fingerprint)

    def _is_known(self, keys: Keys) -> NDArray[np.bool_]:
        with self._guard:
            return self._index.find(keys) >= 0

    def _take_in(self, path: Path) -> None:
        with self._guard:
            self._has_grown = True
            self._adopt([path], verified=True)

    def _adopt(self, paths: Sequence[Path], *, verified: bool) -> None:
        shards: list[Shard] = []
        for path in paths:
            try:
                shards.append(self._open_shard(path))
            except FileNotFoundError:  # another process has just removed it
                continue
            except DamagedShard as error:
                self._set_aside(path, str(error))
        if not shards:
            return
        first = len(self._rows)
        counts = np.array([len(shard.keys) for shard in shards], np.int64)
        self._paths += [str(shard.path) for shard in shards]
        self._starts = np.concatenate((self._starts, first + np.cumsum(counts)))
        self._rows = np.concatenate((self._rows, *(shard.rows for shard in shards)))
        self._verified = np.concatenate((self._verified, np.full(counts.sum(), verified)))
        keys = np.concatenate([shard.keys for shard in shards])
        self._index.add(keys, np.arange(first, len(self._rows), dtype=np.int64))

    def _set_aside(self, path: Path, reason: str) -> None:
        self._damaged.add(str(path))
        set_aside(path, reason)

    def _forget(self, owner: int) -> None:
        """Drop a shard's rows; the numbers of other rows stay as they are."""
        self._index.remove_rows(int(self._starts[owner]), int(self._starts[owner + 1]))
        self._paths[owner] = ""

    def _live_owners(self) -> list[int]:
        return [owner for owner, path in enumerate(self._paths) if path]

    def _owners(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._starts, rows, side="right").astype(np.int64) - 1

    def _verify(self, rows: NDArray[np.int64]) -> dict[int, str]:
        """Compare checksums not compared before; return the damaged shards and why they are."""
        if self._verified[rows].all():
            return {}
        asked = np.zeros(len(self._rows), np.bool_)
        asked[rows] = True
        rows = np.flatnonzero(asked & ~self._verified)
        damaged: dict[int, str] = {}
        owners, firsts = np.unique(self._owners(rows), return_index=True)
        for owner, own in zip(owners.tolist(), np.split(rows, firsts[1:]), strict=False):
            try:
                self._compare_checksums(own)
            except (DamagedShard, FileNotFoundError) as error:
                damaged[owner] = str(error)
            except OSError as error:
                raise CacheError(
                    f"{self._paths[owner]}: cannot be read ({error.strerror}); check its "
                    "permissions and the disk"
                ) from error
            else:
                self._verified[own] = True
        return damaged

    def _compare_checksums(self, rows: NDArray[np.int64]) -> None:
        size = row_size(self.fingerprint)
        step = max(1, PIECE_BYTES // size)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            raw = self._read_raw(piece, np.empty((len(piece), size), np.uint8))
            check_rows(self._rows[piece], raw, stored_dtype(self.fingerprint))

    def _read(self, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        dtype = stored_dtype(self.fingerprint)
        size = row_size(self.fingerprint)
        if out.dtype == dtype:
            self._read_raw(rows, out.view(np.uint8).reshape(len(rows), size))
            return
        step = max(1, PIECE_BYTES // size)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            raw = self._read_raw(piece, np.empty((len(piece), size), np.uint8))
            out[start : start + step] = raw.view(dtype).reshape(-1, *self.fingerprint.shape)

    def _read_raw(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
        dtype = stored_dtype(self.fingerprint)
        self._files.read_rows(self._paths, self._owners(rows), self._rows[rows], dtype, out)
        return out


def _describe(folder: Path, fingerprint: Fingerprint) -> None:
    """Write down, for `fic cache`, what a folder's bottlenecks depend on."""
    path = folder / FINGERPRINT_FILE
    text = (json.dumps(fingerprint.to_dict(), indent=2) + "\n").encode()
    try:
        if path.exists() and read_regular(path, MOST_DESCRIPTION_BYTES, follow_link=False) == text:
            return
    except OSError as error:
        log.debug("%s: %s", path, error.strerror)  # a pipe or a link: replaced, not opened
    try:
        with new_temporary(folder) as file:
            publish(file, text, path)
    except OSError as error:  # the cache works without it
        log.debug("%s: cannot be written (%s)", path, error)
