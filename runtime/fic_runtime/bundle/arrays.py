"""Arrays in the `.npz` files of a bundle, read so that damage ends in one sentence."""

import math
import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import one_line
from .files import BundleFiles
from .manifest import Manifest
from .opening import GOLDEN_FILE

# The linear head of ImageNet's 21841 classes on 4032 features have 0.35 GB.
_MOST_BYTES = 2**30
_HEADERS = 1 << 16  # bytes for the headers of all arrays
# Export records the results of three pictures, and one as a file.
_GOLDEN_PICTURES = 64
_GOLDEN_PICTURE_BYTES = 32 << 20

# Records of a zip archive (PKWARE's APPNOTE, 4.3.7, 4.3.12 and 4.3.16) by their fields.
_FILE = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")


def read_array_file(files: BundleFiles, file: str, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file of a bundle, of which no more is read than may be used.

    Args:
        files: those of the bundle.
        file: the name.
        most_bytes: of all arrays together, by the manifest's own numbers.

    Raises:
        OSError: it cannot be read, or is larger.
        ValueError: it is none, or would grow to more.
    """
    most = min(most_bytes, _MOST_BYTES)
    return read_arrays(files.read(file, most + 2 * _HEADERS), most)


def read_golden_arrays(files: BundleFiles, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Return the recorded results of a bundle; see `read_array_file`."""
    tensors = (manifest.base.input, manifest.base.output, manifest.head.output)
    of_each = 8 + sum(4 * math.prod(tensor.item_shape) for tensor in tensors)
    return read_array_file(files, GOLDEN_FILE, _GOLDEN_PICTURES * of_each + _GOLDEN_PICTURE_BYTES)


def read_arrays(data: bytes, most_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file by their names.

    Args:
        data: the file.
        most_bytes: of all arrays together, where a manifest's own numbers ask for less than 1 GiB.

    Raises:
        ValueError: it is none, or would fill the memory.
    """
    most = _MOST_BYTES if most_bytes is None else min(most_bytes + _HEADERS, _MOST_BYTES)
    try:
        members = _plain_members(data) if len(data) <= most + _HEADERS else None
        if members is not None:
            return {name: _array(member) for name, member in members.items()}
        return _unpacked(data, most)
    # NumPy, zipfile and zlib raise whatever they met on their way, NotImplementedError and
    # MemoryError among it.
    except Exception as error:
        raise ValueError(one_line(error)) from error


def _plain_members(data: bytes) -> dict[str, memoryview] | None:
    """Return the files of an archive as `np.savez` writes it; None if it is any other.

    For the bundles that `Classifier` opens at every start: `zipfile` takes 10 ms to import.
    """
    view, members = memoryview(data), {}
    if len(data) < _END.size:
        return None
    end, *_, number, _, position, _ = _END.unpack_from(data, len(data) - _END.size)
    if end != b"PK\5\6":
        return None
    for _ in range(number):
        if position + _ENTRY.size > len(data):
            return None
        entry = _ENTRY.unpack_from(data, position)
        sign, _, _, flags, method, _, _, _, packed, size, *lengths, _, _, _, start = entry
        position += _ENTRY.size
        name = bytes(view[position : position + lengths[0]])
        position += sum(lengths)
        if sign != b"PK\1\2" or flags or method or packed != size:
            return None
        if start + _FILE.size > len(data) or not name.isascii() or not name.endswith(b".npy"):
            return None
        sign, *_, of_name, of_extra = _FILE.unpack_from(data, start)
        start += _FILE.size + of_name + of_extra
        if sign != b"PK\3\4" or start + size > len(data):
            return None
        members[name.decode().removesuffix(".npy")] = view[start : start + size]
    # Two of one name, or files that lie over each other, are for `zipfile` to judge.
    total = sum(map(len, members.values()))
    return members if len(members) == number and total <= len(data) else None


def _array(member: memoryview) -> NDArray[Any]:
    return np.asarray(np.lib.format.read_array(BytesIO(member), allow_pickle=False))


def _unpacked(data: bytes, most: int) -> dict[str, NDArray[Any]]:
    from zipfile import ZipFile

    from .archive import Bounded, check_method, member_pieces

    arrays = {}
    with Bounded(BytesIO(data)) as stream:
        with ZipFile(stream) as archive:
            entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > most:
            raise ValueError(f"it would grow to {unpacked} bytes")
        for entry in entries:
            check_method(entry)
            content = b"".join(member_pieces(stream, entry))
            name = entry.filename.removesuffix(".npy")
            if not content.startswith(np.lib.format.MAGIC_PREFIX):
                raise ValueError(f"{name} is not an array")
            arrays[name] = _array(memoryview(content))
    return arrays
