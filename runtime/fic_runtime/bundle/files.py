"""Where the files of a bundle lie: in a folder, in one zip archive, or nowhere but in memory."""

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ..errors import BundleError, FicError
from ..reading import open_regular, read_regular, too_large
from .names import MOST_BYTES

_PIECE = 1 << 18  # bytes; larger ones fall out of the processor's cache


class BundleFiles(Protocol):
    """The files of a bundle by their names. OSError means that one cannot be read."""

    in_folder: bool
    """Whether files have paths of their own, as ONNX Runtime needs for weights beside graphs."""

    def path(self, file: str) -> Path:
        """Return where a file lies; inside an archive that is for messages only."""

    def names(self) -> list[str]:
        """Return the names of all that is there, in order; folders and hidden files, too."""

    def size(self, file: str) -> int:
        """Return the bytes of a file."""

    def read(self, file: str, limit: int = MOST_BYTES) -> bytes:
        """Return the content of a file of at most `limit` bytes."""

    def digest(self, file: str, limit: int = MOST_BYTES) -> str:
        """Return the SHA-256 of a file of at most `limit` bytes in hex."""


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

    in_folder = False

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def path(self, file: str) -> Path:
        """See `BundleFiles`; for messages only."""
        return Path(file)

    def names(self) -> list[str]:
        """See `BundleFiles`."""
        return sorted(self._files)

    def size(self, file: str) -> int:
        """See `BundleFiles`."""
        return len(self.read(file))

    def read(self, file: str, limit: int = MOST_BYTES) -> bytes:
        """See `BundleFiles`."""
        try:
            content = self._files[file]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file) from None
        if len(content) > limit:
            raise too_large(file, limit)
        return content

    def digest(self, file: str, limit: int = MOST_BYTES) -> str:
        """See `BundleFiles`."""
        return hashlib.sha256(self.read(file, limit)).hexdigest()


def _damaged(path: Path) -> FicError:
    return BundleError(
        f"{path}: does not match its checksum in the manifest; copy the bundle again or export it "
        "again"
    )


class CheckedFiles:
    """Files of a bundle, each of which is compared with its digest whenever it is read.

    So what was checked is what is used, also where somebody writes the folder meanwhile.

    Args:
        files: where they lie.
        digests: SHA-256 in hex, by name; what is not among them cannot be read.
        otherwise: what is raised for a path, where content and digest differ.
    """

    def __init__(
        self,
        files: BundleFiles,
        digests: Mapping[str, str],
        otherwise: Callable[[Path], FicError] = _damaged,
    ) -> None:
        self._files = files
        self._digests = digests
        self._otherwise = otherwise
        self.in_folder: bool = files.in_folder

    def path(self, file: str) -> Path:
        """See `BundleFiles`."""
        return self._files.path(file)

    def names(self) -> list[str]:
        """See `BundleFiles`."""
        return self._files.names()

    def size(self, file: str) -> int:
        """See `BundleFiles`."""
        return self._files.size(file)

    def read(self, file: str, limit: int = MOST_BYTES) -> bytes:
        """See `BundleFiles`.

        Raises:
            BundleError: it is not what the digest stands for.
        """
        content = self._files.read(file, limit)
        self._compare(file, hashlib.sha256(content).hexdigest())
        return content

    def digest(self, file: str, limit: int = MOST_BYTES) -> str:
        """See `BundleFiles`.

        Raises:
            BundleError: it is not what the digest stands for.
        """
        found = self._files.digest(file, limit)
        self._compare(file, found)
        return found

    def _compare(self, file: str, found: str) -> None:
        if found != self._digests.get(file):
            raise self._otherwise(self.path(file))


class _Folder:
    in_folder = True

    def __init__(self, path: Path) -> None:
        self._root = path

    def path(self, file: str) -> Path:
        return self._root / file

    def names(self) -> list[str]:
        return sorted(os.listdir(self._root))  # noqa: PTH208 # names alone, and none is opened

    def size(self, file: str) -> int:
        with open_regular(self.path(file)) as stream:
            return os.fstat(stream.fileno()).st_size

    def read(self, file: str, limit: int = MOST_BYTES) -> bytes:
        return read_regular(self.path(file), limit)

    def digest(self, file: str, limit: int = MOST_BYTES) -> str:
        path = self.path(file)
        digest = hashlib.sha256()
        piece = bytearray(_PIECE)
        view = memoryview(piece)
        with open_regular(path) as stream:
            # As it was opened: a file that grows would never end.
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise too_large(path, limit)
            while size > 0 and (read := stream.readinto(view)):
                digest.update(view[:read])
                size -= read
        return digest.hexdigest()
