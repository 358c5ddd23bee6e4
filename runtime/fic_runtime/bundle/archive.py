"""The files of a bundle that is one zip archive, read as they lie in it."""

import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo, is_zipfile

from ..errors import BundleError, one_line
from ..reading import open_regular, too_large
from .names import MOST_BYTES, alike, is_file_name

# Graphs hardly shrink. An archive that grows to more than this many times its size, and to more
# than a manifest could, is made to fill the memory.
_MOST_GROWTH = 10
_ALWAYS_FINE = 16 << 20
_MOST_DIRECTORY = 1 << 18  # bytes, of some 5000 files; a bundle has a dozen
_ENCRYPTED, _UTF_8 = 1, 0x800  # bits of ZipInfo.flag_bits
_NEVER = _ENCRYPTED | 0x20 | 0x40  # a patch, or encrypted in another way
_PIECE = 1 << 20
# Of a file's own header (PKWARE's APPNOTE, 4.3.7): the sign, what the directory says as well, and
# the lengths of name and extra field.
_HEADER = struct.Struct("<4s22x2H")


class ArchiveFiles:
    """The files in a zip archive; see `BundleFiles`.

    Raises:
        BundleError: it is not an archive that may be read.
    """

    in_folder = False

    def __init__(self, path: Path) -> None:
        self._archive = path
        with self._told(), self._opened() as stream:
            is_archive = is_zipfile(stream)
            packed = stream.seek(0, os.SEEK_END)
        if not is_archive:
            raise BundleError(
                f"{path}: is neither a folder nor a zip archive; give what `fic export` wrote"
            )
        unpacked = sum(entry.file_size for entry in self._entries.values())
        if unpacked > max(_MOST_GROWTH * packed, _ALWAYS_FINE):
            raise BundleError(
                f"{path}: would grow from {packed} to {unpacked} bytes, as no bundle does; "
                "export it again"
            )

    def path(self, file: str) -> Path:
        """See `BundleFiles`; for messages only."""
        return self._archive / file

    def names(self) -> list[str]:
        """See `BundleFiles`."""
        return sorted(self._entries)

    def size(self, file: str) -> int:
        """See `BundleFiles`."""
        return self._entry(file).file_size

    def read(self, file: str, limit: int = MOST_BYTES) -> bytes:
        """See `BundleFiles`."""
        return b"".join(self._pieces(file, limit))

    def digest(self, file: str, limit: int = MOST_BYTES) -> str:
        """See `BundleFiles`."""
        digest = hashlib.sha256()
        for piece in self._pieces(file, limit):
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def _entries(self) -> dict[str, ZipInfo]:
        with self._told(), self._opened() as stream, ZipFile(stream) as archive:
            entries = archive.infolist()
        for entry in entries:
            if not is_file_name(entry.filename) or entry.flag_bits & _ENCRYPTED:
                raise BundleError(
                    f"{self._archive}: holds {entry.filename!r}, which is in a folder, encrypted "
                    "or no name of a file; zip the files of the bundle themselves, not the folder "
                    "around them"
                )
            with self._told():
                check_method(entry)
        names = {entry.filename: entry for entry in entries}
        if len(names) < len(entries):
            raise BundleError(f"{self._archive}: holds two files of one name; export it again")
        if pair := alike(names):
            raise BundleError(
                f"{self._archive}: holds {pair[0]!r} and {pair[1]!r}, which some systems take for "
                "one file; export it again"
            )
        return names

    def _entry(self, file: str) -> ZipInfo:
        try:
            return self._entries[file]
        except KeyError:
            reason = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, reason, str(self.path(file))) from None

    def _pieces(self, file: str, limit: int) -> Iterator[bytes]:
        entry = self._entry(file)
        if entry.file_size > limit:
            raise too_large(self.path(file), limit)
        with self._told(), self._opened() as stream:
            yield from member_pieces(stream, entry)

    @contextmanager
    def _opened(self) -> Iterator["Bounded"]:
        with open_regular(self._archive) as raw:
            yield Bounded(raw)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BundleError:
            raise
        # zipfile and zlib raise whatever they met, a UnicodeDecodeError of a name and a MemoryError
        # among it.
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BundleError(
                f"{self._archive}: is not a readable zip archive ({one_line(error)}); copy the "
                "bundle again or export it again"
            ) from error


class Bounded(BufferedReader):
    """An archive as zipfile looks into it: it never reads a directory without bound."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(cast(Any, raw))

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the bytes asked for; a directory that is too large is none."""
        most = _MOST_DIRECTORY + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        if len(data) == most:
            raise BadZipFile("its directory is larger than that of any bundle")
        return data

    def read_all(self, size: int) -> bytes:
        """Return as many bytes, whatever they are."""
        data = super().read(size)
        if len(data) < size:
            raise BadZipFile("it is cut off")
        return data


def check_method(entry: ZipInfo) -> None:
    """Refuse what is encrypted, or packed in a way that unpacks without bound.

    Raises:
        BadZipFile: it is.
    """
    if entry.flag_bits & _NEVER:
        raise BadZipFile(f"{entry.filename} is encrypted or a patch")
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise BadZipFile(f"{entry.filename} is packed by a method other than deflate")


def member_pieces(stream: Bounded, entry: ZipInfo) -> Iterator[bytes]:
    """Yield the content of a file: as many bytes as the archive states, or an error.

    Not by zipfile, which reads the whole directory again for each file, and may unpack more than
    was stated before it cuts.

    Raises:
        BadZipFile: it is not what the directory says.
    """
    stream.seek(entry.header_offset)
    sign, of_name, of_extra = _HEADER.unpack(stream.read_all(_HEADER.size))
    encoding = "utf-8" if entry.flag_bits & _UTF_8 else "cp437"
    name = stream.read_all(of_name).decode(encoding)
    if sign != b"PK\3\4" or name != entry.orig_filename:
        raise BadZipFile(f"{entry.filename} does not begin where the directory says")
    stream.seek(of_extra, os.SEEK_CUR)
    crc, left = 0, entry.file_size
    for piece in _unpacked(stream, entry):
        left -= len(piece)
        if left < 0:
            break
        crc = zlib.crc32(piece, crc)
        yield piece
    if left or crc != entry.CRC:
        raise BadZipFile(f"{entry.filename} is not of the size or checksum that is stated")


def _unpacked(stream: Bounded, entry: ZipInfo) -> Iterator[bytes]:
    """Yield what is packed from here on, in pieces of bounded size."""
    left = entry.compress_size
    if entry.compress_type == ZIP_STORED:
        while left:
            piece = stream.read_all(min(_PIECE, left))
            left -= len(piece)
            yield piece
        return
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = b""
    while not unpacking.eof:
        if not packed and left:
            packed = stream.read_all(min(_PIECE, left))
            left -= len(packed)
        piece = unpacking.decompress(packed, _PIECE)
        packed = unpacking.unconsumed_tail
        if not piece and not packed and not left:
            raise BadZipFile(f"{entry.filename} is cut off")
        yield piece
