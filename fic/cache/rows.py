"""Bottlenecks out of shards, read straight from the file, without HDF5.

Random rows are many times faster so: a row is read in one call into the caller's array.
"""

import os
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fingerprint import Fingerprint
from .shards import DamagedShard, Shard, crc32_rows, open_plain, row_size, stored_dtype

PIECE_BYTES = 4 << 20
"""Bytes of bottlenecks that are held at once to compare checksums or to convert them."""

_EXPONENT = np.uint16(0x7C00)  # of a float16; all of its bits are set where it is not finite
_MOST_OPEN_FILES = 4096
# A system reads no more ahead for one call than what it reads ahead in any file, often 128 kB.
_AHEAD_BYTES = 128 << 10


class ShardFiles:
    """Reads rows from any number of shards through a bounded number of open files.

    Args:
        open_file: opens the file of a shard, given its path.
    """

    def __init__(self, open_file: Callable[[str], FileIO] = open_plain) -> None:
        self._open_file = open_file
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self._limit = _open_files()

    def read_rows(
        self,
        paths: Sequence[str],
        owners: NDArray[np.int64],
        rows: NDArray[Any],
        dtype: np.dtype[Any],
        out: NDArray[np.uint8],
    ) -> None:
        """Fill `out`, uint8 (n, size), with rows ROW (n,), of which row i lies in the shard
        `paths[owners[i]]`.

        Raises:
            DamagedShard: a file ends early or a row cannot be decompressed.
            OSError: a file is gone or cannot be read; `filename` names it.
        """
        if not len(rows):
            return
        size = out.shape[1]
        starts, stops = _runs(owners, rows, size)
        flat = out.reshape(-1).data
        for start, stop, owner, offset, stored in zip(
            starts.tolist(),
            stops.tolist(),
            owners[starts].tolist(),
            rows["offset"][starts].tolist(),
            rows["size"][starts].tolist(),
            strict=True,
        ):
            if stored:
                data = bytearray(stored)
                self._read_into(paths[owner], offset, memoryview(data))
                _decode_row(data, dtype.itemsize, out[start])
            else:
                self._read_into(paths[owner], offset, flat[start * size : stop * size])

    def announce_rows(
        self, paths: Sequence[str], owners: NDArray[np.int64], rows: NDArray[Any], size: int
    ) -> None:
        """Let the system read rows ahead that `read_rows` will soon be asked for, if it can.

        In the order of the files, many at a time, and without waiting for them. What is in memory
        already costs some 10 ms for a gigabyte.

        Args:
            size: bytes of an uncompressed row.

        Raises:
            OSError: a file is gone.
        """
        if not len(rows) or not hasattr(os, "posix_fadvise"):
            return
        starts, stops = _runs(owners, rows, size)
        ends = rows["offset"][stops - 1] + np.maximum(rows["size"][stops - 1], size)
        for owner, offset, end in zip(
            owners[starts].tolist(), rows["offset"][starts].tolist(), ends.tolist(), strict=True
        ):
            descriptor = self._file(paths[owner]).fileno()
            for start in range(offset, end, _AHEAD_BYTES):
                count = min(_AHEAD_BYTES, end - start)
                os.posix_fadvise(descriptor, start, count, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close all files; they are opened again when needed."""
        while self._files:
            self._files.popitem()[1].close()

    def __del__(self) -> None:
        self.close()

    def _read_into(self, path: str, offset: int, view: memoryview) -> None:
        file = self._file(path)
        file.seek(offset)
        while view:
            count = file.readinto(view)
            if not count:
                raise DamagedShard("the file ends early")
            view = view[count:]

    def _file(self, path: str) -> FileIO:
        file = self._files.get(path)
        if file is not None:
            self._files.move_to_end(path)
            return file
        if len(self._files) >= self._limit:
            self._files.popitem(last=False)[1].close()
        file = self._files[path] = self._open_file(path)
        return file


def _runs(
    owners: NDArray[np.int64], rows: NDArray[Any], size: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where the parts of `rows` start and stop that can be read at once, as they lie.

    Shard by shard, so that each is opened once however many there are.
    """
    packed = rows["size"] != 0
    # Rows that lie side by side here and there are read at once.
    joined = (np.diff(rows["offset"]) == size) & (np.diff(owners) == 0)
    joined &= ~(packed[1:] | packed[:-1])
    starts = np.concatenate(([0], np.flatnonzero(~joined) + 1))
    stops = np.concatenate((starts[1:], [len(rows)]))
    order = np.lexsort((rows["offset"][starts], owners[starts]))
    return starts[order], stops[order]


def _open_files() -> int:
    """Return how many shards may be open at once: half of the files that this process may open."""
    if sys.platform == "win32":
        return 128
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_OPEN_FILES
    return max(4, min(soft // 2, _MOST_OPEN_FILES))


def checked_pieces(
    shard: Shard, fingerprint: Fingerprint, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield row numbers of a shard and their bytes, uint8 (n, size), a few MB at a time.

    Args:
        rows: which rows, in ascending order; all without it.

    Raises:
        DamagedShard: a checksum does not match.
        OSError: the file cannot be read.
    """
    if rows is None:
        rows = np.arange(len(shard.keys))
    size = row_size(fingerprint)
    step = max(1, PIECE_BYTES // size)
    files = ShardFiles()
    try:
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            raw = np.empty((len(piece), size), np.uint8)
            owners = np.zeros(len(piece), np.int64)
            files.read_rows(
                [str(shard.path)], owners, shard.rows[piece], stored_dtype(fingerprint), raw
            )
            check_rows(shard.rows[piece], raw, stored_dtype(fingerprint))
            yield piece, raw
    finally:
        files.close()


def check_rows(rows: NDArray[Any], raw: NDArray[np.uint8], dtype: np.dtype[Any]) -> None:
    """Raise DamagedShard if bytes uint8 (n, size) are not what ROW (n,) and `dtype` say.

    They have to match their checksums, and to be finite: no fic has written others, and one of them
    makes a whole training end in numbers that are none.
    """
    if wrong := int(np.count_nonzero(crc32_rows(raw) != rows["checksum"])):
        raise DamagedShard(f"{wrong} of {len(raw)} checksums do not match")
    if not _is_finite(raw, dtype):
        raise DamagedShard("a bottleneck is not finite")


def _is_finite(raw: NDArray[np.uint8], dtype: np.dtype[Any]) -> bool:
    if dtype.itemsize == 2:  # half the time of np.isfinite, which turns them into float32
        return not ((raw.view("<u2") & _EXPONENT) == _EXPONENT).any()
    return bool(np.isfinite(raw.view(dtype)).all())


def _decode_row(data: bytes | bytearray, itemsize: int, out: NDArray[np.uint8]) -> None:
    """Undo HDF5's filters shuffle and deflate for one row, into `out`, uint8 (size,).

    Raises:
        DamagedShard: the bytes are not a row of this size.
    """
    stream = zlib.decompressobj()
    try:
        # One byte more than a row has: some bytes may state gigabytes.
        raw = stream.decompress(data, len(out) + 1)
    except zlib.error as error:
        raise DamagedShard(f"a row cannot be decompressed: {error}") from error
    if len(raw) != len(out) or not stream.eof:
        raise DamagedShard("a row has the wrong size")
    out.reshape(-1, itemsize)[:] = np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T
