"""The files of a bundle that is one zip archive, read as they lie in it."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo, is_zipfile

from ..errors import BundleError

# Graphs hardly shrink. An archive that grows to more than this many times its size, and to more
# than small texts could, is made to fill the memory.
_MOST_GROWTH = 10
_ALWAYS_FINE = 64 << 20
_ENCRYPTED = 1  # a bit of ZipInfo.flag_bits


class ArchiveFiles:
    """The files in a zip archive; see `BundleFiles`.

    Raises:
        BundleError: it is not an archive that may be read.
    """

    def __init__(self, path: Path) -> None:
        self._archive = path
        with self._told():
            is_archive = is_zipfile(path)
        if not is_archive:
            raise BundleError(
                f"{path}: is neither a folder nor a zip archive; give what `fic export` wrote"
            )
        packed = path.stat().st_size
        unpacked = sum(entry.file_size for entry in self._entries.values())
        if unpacked > max(_MOST_GROWTH * packed, _ALWAYS_FINE):
            raise BundleError(
                f"{path}: would grow from {packed} to {unpacked} bytes, as no bundle does; "
                "export it again"
            )

    def path(self, file: str) -> Path:
        """See `BundleFiles`; for messages only."""
        return self._archive / file

    def size(self, file: str) -> int:
        """See `BundleFiles`."""
        return self._entry(file).file_size

    def read(self, file: str) -> bytes:
        """See `BundleFiles`."""
        with self._open(file) as stream:
            return stream.read()

    def digest(self, file: str) -> str:
        """See `BundleFiles`."""
        digest = hashlib.sha256()
        with self._open(file) as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    def model(self, file: str) -> bytes:
        """See `BundleFiles`."""
        return self.read(file)

    @cached_property
    def _entries(self) -> dict[str, ZipInfo]:
        with self._told(), ZipFile(self._archive) as archive:
            entries = archive.infolist()
        for entry in entries:
            if set(entry.filename) & set("/\\:\0") or entry.flag_bits & _ENCRYPTED:
                raise BundleError(
                    f"{self._archive}: holds {entry.filename!r}, which is in a folder or "
                    "encrypted; zip the files of the bundle themselves, not the folder around them"
                )
        names = {entry.filename: entry for entry in entries}
        if len(names) < len(entries):
            raise BundleError(f"{self._archive}: holds two files of one name; export it again")
        return names

    def _entry(self, file: str) -> ZipInfo:
        try:
            return self._entries[file]
        except KeyError:
            reason = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, reason, str(self.path(file))) from None

    @contextmanager
    def _open(self, file: str) -> Iterator[IO[bytes]]:
        # Never more than the size that the archive states and that was looked at: zipfile sees to
        # that.
        entry = self._entry(file)
        with self._told(), ZipFile(self._archive) as archive, archive.open(entry) as stream:
            yield stream

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        # zipfile and what unpacks for it raise whatever they met: an OSError without a number
        # comes from bz2, a UnicodeDecodeError from a name that is not UTF-8.
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BundleError(
                f"{self._archive}: is not a readable zip archive ({error}); copy the bundle "
                "again or export it again"
            ) from error
