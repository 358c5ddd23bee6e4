"""Downloads: resumed where they were cut, checked, and there whole or not at all.

What a server sends is a stranger's until its checksum is right: no more is kept than the file has
bytes, and no redirect leaves the protocol that the address promised.
"""

import hashlib
import http.client
import logging
import os
import re
import shutil
import ssl
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from fic_runtime.reading import read_regular

from ..errors import DataError, DownloadError
from ..progress import Progress, Silence

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_MOST_ETAG = 1024  # bytes; a longer one is not used
# Answers that another attempt may not get: too many requests, and faults of the server.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A public data set: a gzipped tar archive that holds one folder of class folders."""

    url: str
    sha256: str
    size: int
    root: str


DATASETS: dict[str, DataSource] = {
    # CC-BY, the photographers are named in its LICENSE.txt. Checksum and size as TensorFlow
    # Datasets has them, in url_checksums/tf_flowers.txt.
    "flowers": DataSource(
        url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        size=228813984,
        root="flower_photos",
    ),
}


def fetch_dataset(name: str, folder: str | Path, *, progress: Progress | None = None) -> Path:
    """Download and unpack a data set of `DATASETS`, unless it is there, and return its folder.

    Args:
        name: the data set; it becomes `folder/name`.
        folder: where to put it; created if need be.
        progress: hears of the bytes received.

    Raises:
        DataError: no data set has this name.
        DownloadError: it cannot be fetched, unpacked or written.
    """
    if name not in DATASETS:
        raise DataError(f"no data set is called {name!r}; choose from {', '.join(DATASETS)}")
    source = DATASETS[name]
    target = Path(folder) / name
    if target.is_dir():
        return target
    archive = Path(folder) / f"{name}.tgz"
    own = archive.exists()  # the user's: put there, as an error of the download says
    download(source.url, archive, sha256=source.sha256, size=source.size, progress=progress)
    _unpack(archive, source.root, target)
    if not own:
        archive.unlink()
    return target


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str,
    size: int | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Download a file, unless it is there, and return its path.

    What was received stays in `<path>.part` when the connection is cut, and the next attempt, or
    the next call, goes on from there if the server can. The file appears under its own name
    once its checksum is right.

    Args:
        url: where from.
        path: where to; its folder is created if need be.
        sha256: the checksum that the file must have, in hexadecimal digits.
        size: its size in bytes, if known.
        progress: hears of the bytes received.
        timeout: seconds without an answer after which an attempt ends.
        attempts: how many in a row may bring nothing new.
        pause: seconds before the second attempt; doubled before each one after.

    Raises:
        DownloadError: the file cannot be fetched or written, or its checksum is wrong.
    """
    path = Path(path)
    part = _Part(
        path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag"), size
    )
    try:
        if path.is_file() and _sha256(path) == sha256:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part.check()
        _receive(url, part, path, size, progress or Silence(), timeout, attempts, pause)
        received = _sha256(part.file)
        if received != sha256:
            part.delete()
            raise DownloadError(
                f"{url}: what was received has the SHA-256 {received} instead of {sha256} and "
                f"was deleted; try again, and if that fails too, the file at this address is "
                f"not the one that fic knows"
            )
        part.file.replace(path)
        part.delete()
    except OSError as error:
        raise DownloadError(
            f"{path}: cannot be written: {error.strerror or error}; remedy that and run again, "
            f"the download then goes on where it stopped"
        ) from error
    return path


@dataclass(frozen=True)
class _Part:
    """The part received so far, and the version (ETag) of the file that it belongs to.

    `most` is the size of the whole file in bytes, if known.
    """

    file: Path
    etag_file: Path
    most: int | None

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    @property
    def etag(self) -> str:
        if not self.etag_file.exists():
            return ""
        return read_regular(self.etag_file, _MOST_ETAG, follow_link=False).decode("latin-1")

    def check(self) -> None:
        """Raise OSError where something else has these names: it is neither followed nor cut."""
        for path in (self.file, self.etag_file):
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise OSError(f"{path.name} beside it is no plain file")

    def begin(self, etag: str) -> None:
        with self._open(self.file, "wb"):
            pass
        with self._open(self.etag_file, "wb") as file:
            file.write(etag[:_MOST_ETAG].encode("latin-1", "replace"))

    def append(self) -> BinaryIO:
        """Open the part to go on."""
        return self._open(self.file, "ab")

    @staticmethod
    def _open(path: Path, mode: Literal["wb", "ab"]) -> BinaryIO:
        def plain(name: str, flags: int) -> int:
            return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

        return open(path, mode, opener=plain)  # Path's takes no opener

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)
        self.etag_file.unlink(missing_ok=True)


class _RefusedRedirectError(Exception):
    """A server redirects to another protocol; the text is the address."""


class _SameProtocol(urllib.request.HTTPRedirectHandler):
    """Follows redirects within https, and from http to http or https."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that follows a redirect."""
        fp.close()  # else urllib reads the whole of an answer that may have no end
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme.lower() not in allowed:
            raise _RefusedRedirectError(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SameProtocol)


class _Interrupted(Exception):
    """An attempt has ended before the file did, and another may bring more."""


def _receive(
    url: str,
    part: _Part,
    path: Path,
    size: int | None,
    progress: Progress,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Fill the part file to its end."""
    failures = 0
    most = part.size
    while True:
        try:
            _attempt(url, part, size, progress, timeout)
            return
        except _Interrupted as interruption:
            if part.size > most:
                most, failures = part.size, 0
            failures += 1
            if failures >= attempts:
                raise DownloadError(
                    f"{url}: cannot be downloaded: {interruption}; check the network and run "
                    f"again, or put the file at {path} yourself"
                ) from interruption.__cause__
            log.info("%s: %s; trying again", url, interruption)
            time.sleep(pause * 2 ** (failures - 1))


def _attempt(url: str, part: _Part, size: int | None, progress: Progress, timeout: float) -> None:
    have = part.size
    if size is not None and have == size:
        return
    if size is not None and have > size:
        part.delete()
        have = 0
    response = _open(url, part, have, timeout)
    with response:
        if response.status != 206 or _first_byte(response) != have:
            have = 0
            # A weak tag does not promise the same bytes.
            etag = response.headers.get("ETag", "")
            part.begin("" if etag.startswith("W/") else etag)
        length = response.headers.get("Content-Length", "")
        # Digits of ASCII: others are no length, and int() takes no more than some thousands.
        stated = have + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if size is not None and stated is not None and stated > size:
            raise _too_much(url, size)
        end = stated if size is None else size
        progress.start(f"downloading {part.file.stem}", end or have, unit="byte", done=have)
        try:
            _append(response, part, progress)
            if size is not None and part.size > size:
                part.delete()
                raise _too_much(url, size)
        finally:
            progress.finish()
    if end is not None and part.size < end:
        raise _Interrupted(f"the connection was cut after {part.size} of {end} bytes")


def _open(url: str, part: _Part, have: int, timeout: float) -> http.client.HTTPResponse:
    """Ask the server for what comes after the first `have` bytes."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if part.etag:
            request.add_header("If-Range", part.etag)
    try:
        response: http.client.HTTPResponse = _OPENER.open(request, timeout=timeout)
    except _RefusedRedirectError as error:
        raise DownloadError(
            f"{url}: leads to {error}, which is not fetched; check the address, or a proxy on the "
            "way"
        ) from None
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is not the beginning of what is there now
            part.delete()
            raise _Interrupted("the file on the server has changed") from error
        if error.code in _PASSING:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(
            f"{url}: the server answers {error.code} {error.reason}; "
            f"check the address, or a proxy on the way"
        ) from error
    except ValueError as error:  # of an address that is none
        raise DownloadError(f"{url}: leads to no address ({error}); check it") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: the server's certificate is not trusted ({reason.verify_message}); "
                f"check the clock and the certificates of this machine"
            ) from error
        raise _Interrupted(_sentence(reason)) from error
    return response


def _too_much(url: str, size: int | None) -> DownloadError:
    return DownloadError(
        f"{url}: the server sends more than the {size} bytes that the file has; check the address, "
        "or a proxy on the way"
    )


def _append(response: http.client.HTTPResponse, part: _Part, progress: Progress) -> None:
    """Append what is received, and one byte at most of what is past the end of the file."""
    room = None if part.most is None else part.most + 1 - part.size
    with part.append() as file:
        while room is None or room > 0:
            try:
                chunk = response.read1(_CHUNK if room is None else min(_CHUNK, room))
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(_sentence(error)) from error
            if not chunk:
                return
            file.write(chunk)
            room = None if room is None else room - len(chunk)
            progress.advance(len(chunk))


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _sentence(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unpack(archive: Path, root: str, target: Path) -> None:
    """Unpack the folder `root` of the archive as `target`, which appears whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            with tarfile.open(archive, "r:gz") as members:
                for member in members:
                    _unpack_member(archive, members, member, Path(folder))
            if not Path(folder, root).is_dir():
                raise DownloadError(f"{archive}: holds no folder {root}; delete it and run again")
            Path(folder, root).rename(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DownloadError(
            f"{archive}: cannot be unpacked: {error}; delete it and run again"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{target}: cannot be written: {error.strerror or error}; remedy that and run again"
        ) from error


def _unpack_member(
    archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path
) -> None:
    # By hand, because the safe filters of tarfile came with Python 3.11.4, and a data set needs
    # files only: what is a link or a device is left out, so nothing can lead outside either.
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        raise DownloadError(
            f"{archive}: holds {member.name!r}, which would be written outside its folder; "
            f"delete the archive and do not trust where it came from"
        )
    content = members.extractfile(member) if member.isfile() else None
    if content is None:
        return
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with content, file.open("wb") as copy:
        shutil.copyfileobj(content, copy, _CHUNK)
