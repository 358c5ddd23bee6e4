"""Figures of epochs as TensorBoard reads them, written without TensorFlow, whose import is slow.

A file of events is a row of records: length (uint64, little-endian), its checksum, an `Event` in
protobuf's encoding, and its checksum. Of `Event` and the messages in it, few fields are needed
(tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto).
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_FLOAT = 1  # DT_FLOAT
_SCALAR = 1  # DATA_CLASS_SCALAR
_VARINT, _64_BITS, _BYTES = 0, 1, 2  # how a field is encoded


class EventFile:
    """One file of events in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file: BinaryIO = (folder / f"{name}.0.v2").open("wb")
        self._write(_field(3, b"brain.Event:2"))  # file_version, which comes first

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers, by tag, of one step."""
        summary = b"".join(_field(1, _value(tag, value)) for tag, value in values.items())
        self._write(_field(2, step) + _field(5, summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: bytes) -> None:
        event = _key(1, _64_BITS) + struct.pack("<d", time.time()) + event  # wall_time
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _value(tag: str, value: float) -> bytes:
    """Return a `Summary.Value` with a scalar tensor."""
    plugin = _field(1, b"scalars")
    tensor = _field(1, _FLOAT) + _field(2, b"") + _field(4, struct.pack("<f", value))
    metadata = _field(1, plugin) + _field(4, _SCALAR)
    return _field(1, tag.encode()) + _field(9, metadata) + _field(8, tensor)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _key(number, _VARINT) + _varint(value)
    return _key(number, _BYTES) + _varint(len(value)) + value


def _key(number: int, encoding: int) -> bytes:
    return _varint(number << 3 | encoding)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _checksum(data: bytes) -> bytes:
    """Return the CRC-32C of bytes, masked as in files of records."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_table_entry(byte) for byte in range(256)]
