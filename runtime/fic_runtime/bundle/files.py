"""Where the files of a bundle lie: in a folder, in one zip archive, or nowhere but in memory."""

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class BundleFiles(Protocol):
    """The files of a bundle by their names. OSError means that one cannot be read."""

    def path(self, file: str) -> Path:
        """Return where a file lies; inside an archive that is for messages only."""

    def size(self, file: str) -> int:
        """Return the bytes of a file."""

    def read(self, file: str) -> bytes:
        """Return the content of a file."""

    def digest(self, file: str) -> str:
        """Return the SHA-256 of a file in hex."""

    def model(self, file: str) -> Path | bytes:
        """Return a graph as ONNX Runtime takes it: its path, or its bytes."""


def bundle_files(path: Path) -> BundleFiles:
    """Return the files of the bundle at `path`, a folder or a zip archive.

    Raises:
        BundleError: it is a file, and no archive that may be read.
    """
    # os.path's, as Path's raises for a name that no file can have.
    if not os.path.isfile(path):  # noqa: PTH113
        return _Folder(path)
    from .archive import ArchiveFiles  # for archives alone: zipfile costs 10 ms of a start

    return ArchiveFiles(path)


class HeldFiles:
    """Files that lie nowhere but in memory, by their names."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def path(self, file: str) -> Path:
        """See `BundleFiles`; for messages only."""
        return Path(file)

    def size(self, file: str) -> int:
        """See `BundleFiles`."""
        return len(self.read(file))

    def read(self, file: str) -> bytes:
        """See `BundleFiles`."""
        try:
            return self._files[file]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file) from None

    def digest(self, file: str) -> str:
        """See `BundleFiles`."""
        return hashlib.sha256(self.read(file)).hexdigest()

    def model(self, file: str) -> bytes:
        """See `BundleFiles`."""
        return self.read(file)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._root = path

    def path(self, file: str) -> Path:
        return self._root / file

    def size(self, file: str) -> int:
        return self.path(file).stat().st_size

    def read(self, file: str) -> bytes:
        return self.path(file).read_bytes()

    def digest(self, file: str) -> str:
        with self.path(file).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def model(self, file: str) -> Path:
        return self.path(file)
