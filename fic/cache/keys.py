"""Keys of bottlenecks, and an index from keys to rows: 28 bytes for each of millions."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..digests import DIGEST_SIZE, digest_bytes

Keys = NDArray[np.bytes_]
"""Keys as an array of dtype S20: 16 bytes of a digest and the view's number, big-endian.

NumPy hides trailing zero bytes of such an element when it is turned into `bytes`; comparing,
sorting and searching are right, because all keys have the same length."""

KEY_SIZE = 20

VIEW_RECIPE = b"flip-crop-colour-1"
"""Part of the key of each augmented view: another name whenever `fic.bottlenecks.views` draws
otherwise."""


def make_keys(entries: Iterable[tuple[bytes, int]]) -> Keys:
    """Return the keys of (content digest of 16 bytes, view) pairs: S20 (pairs,).

    The key of an augmented view, 1 and above, also depends on `VIEW_RECIPE`, so another recipe
    never hits it.
    """
    numbered = (
        _view_digest(digest, view) + view.to_bytes(KEY_SIZE - DIGEST_SIZE, "big")
        for digest, view in entries
    )
    return np.frombuffer(b"".join(numbered), dtype=f"S{KEY_SIZE}")


def key_digests(digest: bytes) -> tuple[bytes, bytes]:
    """Return what the keys of a picture's plain view and of its augmented views begin with."""
    return _view_digest(digest, 0), _view_digest(digest, 1)


def as_keys(keys: Keys) -> Keys:
    """Return keys as an array of dtype S20 (n,), or raise ValueError."""
    keys = np.asarray(keys)
    if keys.dtype != f"S{KEY_SIZE}" or keys.ndim != 1:
        raise ValueError(f"keys are an array of dtype S{KEY_SIZE}, as make_keys gives it")
    return keys


class KeyIndex:
    """Finds the row of a key among sorted keys; of equal keys the row that was added first."""

    def __init__(self) -> None:
        self._keys: Keys = np.empty(0, f"S{KEY_SIZE}")
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        """How many different keys there are."""
        if not len(self._keys):
            return 0
        return 1 + int(np.count_nonzero(self._keys[1:] != self._keys[:-1]))

    @property
    def keys(self) -> Keys:
        """All keys, sorted; equal ones as often as they were added."""
        return self._keys

    def add(self, keys: Keys, rows: NDArray[np.int64]) -> None:
        """Add rows (n,) under keys (n,), which may be there already."""
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows[order]
        if not len(self._keys):
            self._keys, self._rows = keys, rows
            return
        positions = np.searchsorted(self._keys, keys, side="right")
        self._keys = np.insert(self._keys, positions, keys)
        self._rows = np.insert(self._rows, positions, rows)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the row of each key, -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        if not len(self._keys):
            return found
        order = _rough_order(keys)
        wanted = keys[order]
        positions = np.searchsorted(self._keys, wanted)
        positions[positions == len(self._keys)] = 0
        hit = self._keys[positions] == wanted
        found[order[hit]] = self._rows[positions[hit]]
        return found

    def remove_rows(self, start: int, stop: int) -> None:
        """Forget the rows from `start` to before `stop`."""
        kept = (self._rows < start) | (self._rows >= stop)
        self._keys, self._rows = self._keys[kept], self._rows[kept]


def _view_digest(digest: bytes, view: int) -> bytes:
    if len(digest) != DIGEST_SIZE:
        raise ValueError(f"a digest has {DIGEST_SIZE} bytes")
    return digest if view == 0 else digest_bytes(digest + VIEW_RECIPE)


def _rough_order(keys: Keys) -> NDArray[np.int64]:
    """Sort by the first 8 bytes, so that neighbouring searches touch the same memory.

    For a million keys that makes searching 5 times as fast, and a whole sort costs as much again.
    """
    raw = np.ascontiguousarray(keys).view(np.uint8).reshape(-1, KEY_SIZE)
    return np.argsort(raw[:, :8].copy().view(">u8").reshape(-1).astype(np.uint64))
