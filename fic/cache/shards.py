"""One shard of the cache: an HDF5 file of bottlenecks that is written once and never changed.

HDF5 reads what is small, the keys and where things lie; bottlenecks are then read straight from
their place in the file, which is many times faster for random rows than going through HDF5.

Whoever may write a cache may leave anything under a shard's name. A shard is a regular file whose
data sets lie in it, whole: no pipe, no link to another file, no more rows stated than there are
bytes.
"""

import errno
import logging
import math
import os
import stat
import sys
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fic_runtime.reading import open_regular

from ..errors import one_line
from ..fingerprint import FORMAT, Fingerprint
from ..options import Compression
from .keys import KEY_SIZE, Keys
from .locks import new_temporary, publish

log = logging.getLogger(__name__)

ROW = np.dtype([("offset", "<i8"), ("size", "<u4"), ("checksum", "<u4")])
"""Where a row lies in its file, its size there if it is compressed (else 0), its checksum."""

_SHARD = "shard-"
_DAMAGED = "damaged-"


class DamagedShard(Exception):
    """A file is not a whole shard of this fingerprint; the text says why."""


@dataclass(frozen=True)
class Shard:
    """Contents of a shard, in the order of its rows: `keys` S20 (n,) and `rows` ROW (n,)."""

    path: Path
    keys: Keys
    rows: NDArray[Any]


def shard_paths(folder: Path) -> list[Path]:
    """Return the committed shards of a folder, sorted."""
    return _listed(folder, _SHARD)


def damaged_paths(folder: Path) -> list[Path]:
    """Return the files of a folder that were set aside, sorted."""
    return _listed(folder, _DAMAGED)


def set_aside(path: Path, reason: str) -> Path | None:
    """Rename a damaged shard, so that it is not opened again, with one warning in the log.

    Returns:
        The new path, or None where it could not be renamed.
    """
    target = path.with_name(_DAMAGED + path.name)
    try:
        path.replace(target)
    except OSError as error:  # a read-only cache, or another process was faster
        log.warning("%s: ignored (%s), not set aside (%s)", path, reason, error.strerror)
        return None
    log.warning("%s: set aside as %s (%s)", path, target.name, reason)
    return target


def stored_dtype(fingerprint: Fingerprint) -> np.dtype[Any]:
    """Return the dtype of a stored bottleneck: little-endian on every machine."""
    return np.dtype(fingerprint.dtype).newbyteorder("<")


def row_size(fingerprint: Fingerprint) -> int:
    """Return the bytes of one uncompressed bottleneck."""
    return math.prod(fingerprint.shape) * stored_dtype(fingerprint).itemsize


def encode_rows(features: NDArray[Any], compression: Compression) -> list[bytes]:
    """Return the bytes of each row of (n, *shape) as they stand in a shard."""
    if compression == "none":
        return [row.tobytes() for row in features]
    itemsize = features.dtype.itemsize
    shuffled = (row.reshape(-1).view(np.uint8).reshape(-1, itemsize).T for row in features)
    # Level 1: level 4 saves 2 to 3 % more and takes half as long again.
    return [zlib.compress(row.tobytes(), 1) for row in shuffled]


def crc32_rows(raw: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each row of uint8 (n, size)."""
    return np.fromiter(map(zlib.crc32, raw), np.uint32, len(raw))


def row_checksums(keys: Keys, raw: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return a checksum for each row of `raw`, uint8 (n, size), that covers its key as well.

    CRC-32 of the row, XORed with the five big-endian 32-bit words of the key: any change of fewer
    than 33 consecutive bits is found for sure, any other with a chance of 1 - 2**-32.
    """
    words = np.ascontiguousarray(keys).view(">u4").reshape(len(keys), KEY_SIZE // 4)
    return reduce(np.bitwise_xor, words.T.astype(np.uint32), crc32_rows(raw))


def write_shard(
    folder: Path,
    fingerprint: Fingerprint,
    keys: Keys,
    checksums: NDArray[np.uint32],
    rows: Sequence[bytes],
    compression: Compression,
) -> Path:
    """Write one shard so that it is there whole and on the disk, or not at all.

    Args:
        rows: as `encode_rows` made them with this `compression`.

    Raises:
        OSError: the folder cannot be written, e.g. no space is left; nothing stays behind.
    """
    # HDF5 only ever sees memory: a full disk is an ordinary OSError of write() and not a library
    # left in the middle of closing a file.
    image = _shard_image(fingerprint, keys, checksums, rows, compression)
    path = folder / f"{_SHARD}{uuid.uuid4().hex}.h5"
    with new_temporary(folder) as file:
        publish(file, image, path)
    _sync_folder(folder)
    return path


def open_shard(path: Path, fingerprint: Fingerprint) -> Shard:
    """Read a shard's keys and where its rows lie.

    Raises:
        DamagedShard: it is not a whole shard of this fingerprint.
        OSError: the file is gone or cannot be opened.
    """
    size = _size(path)
    try:
        return _open_shard(path, fingerprint, size)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        open_plain(path).close()  # when the file itself cannot be opened, that is the error
        raise DamagedShard(f"HDF5: {one_line(error)}") from error
    except MemoryError as error:
        raise DamagedShard("it states more rows than fit in memory") from error


def open_plain(path: Path | str) -> FileIO:
    """Open a shard to be read; it is a regular file and no link.

    Raises:
        DamagedShard: it is something else.
        OSError: the file is gone or cannot be opened.
    """
    try:
        return open_regular(path, follow_link=False)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO):
            raise DamagedShard("it is not a regular file") from error
        raise


def _listed(folder: Path, prefix: str) -> list[Path]:
    # Not Path.glob: for a folder that may not be read it gives nothing instead of an error.
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))  # noqa: PTH208
    return [folder / name for name in names if name.endswith(".h5")]


def _shard_image(
    fingerprint: Fingerprint,
    keys: Keys,
    checksums: NDArray[np.uint32],
    rows: Sequence[bytes],
    compression: Compression,
) -> memoryview:
    image = BytesIO()
    # v110 has a checksum for all of HDF5's own structures, so a flipped bit there is found too.
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["fingerprint"] = np.bytes_(fingerprint.digest)
        file["keys"] = np.ascontiguousarray(keys).view(np.uint8).reshape(-1, KEY_SIZE)
        file["checksums"] = checksums.astype("<u4")
        shape = (len(keys), *fingerprint.shape)
        dtype = stored_dtype(fingerprint)
        if len(fingerprint.shape) == 1 and compression == "none":
            file["features"] = np.frombuffer(b"".join(rows), dtype).reshape(shape)
        else:
            filters = {"compression": 1, "shuffle": True} if compression == "gzip" else {}
            features = file.create_dataset(
                "features", shape, dtype, chunks=(1, *fingerprint.shape), **filters
            )
            inner = (0,) * len(fingerprint.shape)
            for index, row in enumerate(rows):
                features.id.write_direct_chunk((index, *inner), row)
    return image.getbuffer()


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # where a folder cannot be opened, nor needs to be
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedShard("it is not a regular file")
    return status.st_size


def _open_shard(path: Path, fingerprint: Fingerprint, size: int) -> Shard:
    # The low-level calls take half the time of h5py.File, which counts for thousands of shards.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # Shards never change, and some file systems have no locks.
    access.set_file_locking(False, True)
    file = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, fapl=access)
    try:
        name = np.zeros((), "S64")
        h5py.h5a.open(file, b"fingerprint").read(name)
        if name.tobytes() != fingerprint.digest.encode():
            raise DamagedShard("it belongs to another fingerprint")
        keys = _read(_data_set(file, b"keys"), "u1", h5py.h5t.NATIVE_UINT8, size)
        checksums = _read(_data_set(file, b"checksums"), "u4", h5py.h5t.NATIVE_UINT32, size)
        features = _data_set(file, b"features")
        count = len(keys)
        if (
            (keys.shape, checksums.shape) != ((count, KEY_SIZE), (count,))
            or features.shape != (count, *fingerprint.shape)
            or features.dtype != stored_dtype(fingerprint)
        ):
            raise DamagedShard("its data sets do not have the shapes of a shard")
        keys = keys.view(f"S{KEY_SIZE}").reshape(-1)
        rows = np.zeros(count, ROW)
        _place_rows(features, row_size(fingerprint), rows, size)
        words = keys.view(">u4").reshape(count, KEY_SIZE // 4).T.astype(np.uint32)
        # What the CRC of the row's bytes alone has to be: the keys are not needed any more.
        rows["checksum"] = reduce(np.bitwise_xor, words, checksums)
    finally:
        file.close()
    return Shard(path, keys, rows)


def _data_set(file: Any, name: bytes) -> Any:
    """Open a data set whose values are in this file, and nowhere else."""
    if file.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DamagedShard(f"{name.decode()} is a link")
    found = h5py.h5d.open(file, name)
    made = found.get_create_plist()
    if made.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise DamagedShard(f"{name.decode()} is not stored as a shard's are")
    if made.get_external_count():
        raise DamagedShard(f"the values of {name.decode()} are in another file")
    return found


def _read(source: Any, dtype: str, native: Any, size: int) -> NDArray[Any]:
    """Return a data set that is stored as it is, in a file of `size` bytes."""
    wanted = math.prod(source.shape) * np.dtype(dtype).itemsize
    # Of chunks that were never written, or are one and the same, more can be stated than is there.
    if source.get_create_plist().get_nfilters() or not (
        wanted <= source.get_storage_size() <= size
    ):
        raise DamagedShard("it has more values than bytes")
    values = np.empty(source.shape, dtype)
    source.read(h5py.h5s.ALL, h5py.h5s.ALL, values, native)
    return values


def _place_rows(features: Any, row: int, rows: NDArray[Any], size: int) -> None:
    """Fill in where each row lies, `row` bytes uncompressed, in a file of `size` bytes."""
    offset = features.get_offset()
    if offset is not None:  # contiguous
        if offset + row * len(rows) > size:
            raise DamagedShard("the file ends early")
        rows["offset"] = offset + row * np.arange(len(rows), dtype=np.int64)
        return
    filters = features.get_create_plist().get_nfilters()
    added = 0

    def add(chunk: Any) -> None:
        nonlocal added
        stored = chunk.size if filters else 0
        if chunk.byte_offset + (stored or row) > size:
            raise DamagedShard("the file ends early")
        rows[chunk.chunk_offset[0]] = (chunk.byte_offset, stored, 0)
        added += 1

    features.chunk_iter(add)
    if added != len(rows):
        raise DamagedShard("a row is missing")
