"""Files that are not local, through fsspec: URLs that go wherever a path goes.

Credentials are fsspec's own business. What a URL holds of them is kept for the access alone: as a
text, which is what errors, logs and `run.json` get, it has `***` in their places.
"""

import hashlib
import io
import logging
import os
import random
import re
import stat
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.graphs.cache import cache_folder
from fic_runtime.images import decode_image, read_image
from fic_runtime.preprocessing import Geometry

from ..errors import DataError, one_line
from ..options import StrPath

if sys.platform == "win32":
    from pathlib import WindowsPath as _LocalPath
else:
    from pathlib import PosixPath as _LocalPath

log = logging.getLogger(__name__)

EXTRA = 'pip install "fast-image-classification[remote]"'
ATTEMPTS = 5
FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each later pause is twice as long."""

# At least two letters, so that a drive of Windows is none.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WITH_HOST = frozenset({"s3", "s3a", "gs", "gcs", "http", "https", "hf"})
_SECRET = re.compile(
    r"sig|token|key|secret|cred|pass|pwd|auth|access|policy|session|jwt|code|expires", re.IGNORECASE
)
_LONGEST_PLAIN_VALUE = 24  # characters of a query's value that can hardly be a signature
_MD5 = re.compile(r"[0-9a-f]{32}")
_MAX_BYTES = 2**30  # of a picture, as `fic_runtime.images` has it

# Buckets whose ETags turned out not to be the MD5 of the content.
_OTHER_ETAGS: set[str] = set()

_Result = TypeVar("_Result")


class Version(NamedTuple):
    """What tells one content of a URL from the next: its size, and its ETag or time.

    `etag` is the empty string where the server gives none; then `mark` is the time.
    """

    size: int
    mark: str
    etag: str


class RemotePath(_LocalPath):
    """A URL in the place of a path; `url` has the credentials that `str()` leaves out.

    Args:
        url: the whole URL, e.g. `s3://bucket/photos/1.jpg`.
        version: what a listing said of the file, so that nobody has to ask again.
    """

    __slots__ = ("_known", "url")

    url: str
    _known: Version | None

    def __new__(cls, url: str, version: Version | None = None) -> "RemotePath":
        """Make the path; its parts are those of the URL without its query."""
        self = super().__new__(cls, _bare(url))
        self.url = url
        self._known = version
        return self

    if sys.version_info >= (3, 12):

        def __init__(self, url: str, version: Version | None = None) -> None:
            super().__init__(_bare(url))

    def __str__(self) -> str:
        return redacted(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __fspath__(self) -> str:
        return str(self)

    def __hash__(self) -> int:
        return hash(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __reduce__(self) -> Any:
        return RemotePath, (self.url, self._known)

    def __truediv__(self, name: str | os.PathLike[str]) -> "RemotePath":
        start, query = _parted(self.url)
        return RemotePath(f"{start.rstrip('/')}/{os.fspath(name)}{query}")

    @property
    def parent(self) -> "RemotePath":
        """The URL one level up; the root of a bucket or a host is its own parent."""
        start, query = _parted(self.url)
        up = start.rstrip("/").rpartition("/")[0]
        return self if up.endswith((":/", ":")) else RemotePath(up + query)

    @property
    def is_listed(self) -> bool:
        """Whether `version` is known without asking."""
        return self._known is not None

    @property
    def version(self) -> Version:
        """Size and ETag or time, asked for once.

        Raises:
            OSError: the server does not know it or cannot be reached.
        """
        if self._known is None:
            self._known = version_of(retried(lambda: file_system(self.url).info(self.url), self))
        return self._known

    @property
    def memo_name(self) -> bytes:
        """What the memo of digests knows this file by: not the URL, which may hold credentials."""
        return f"{self}#{hashlib.blake2b(self.url.encode(), digest_size=16).hexdigest()}".encode()

    @property
    def local_copy(self) -> Path:
        """The folder of this machine for what is kept of a cache at this URL.

        Raises:
            DataError: this machine has no folder for caches.
        """
        root = cache_folder()
        if root is None:
            raise DataError(
                f"{self}: needs a local folder for copies of its shards; set FIC_CACHE_DIR to one"
            )
        digest = hashlib.blake2b(self.url.rstrip("/").encode(), digest_size=8).hexdigest()
        return root / "remote" / f"{re.sub(r'[^A-Za-z0-9-]+', '-', self.name)[:40]}-{digest}"

    def absolute(self) -> "RemotePath":
        """Return the path itself."""
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Return the path itself."""
        return self

    def is_relative_to(self, *other: str | os.PathLike[str]) -> bool:
        """Tell whether this lies below another URL."""
        (above,) = other
        start = f"{_parted(above.url)[0].rstrip('/')}/" if isinstance(above, RemotePath) else None
        return start is not None and f"{_parted(self.url)[0]}/".startswith(start)

    def exists(self, **_: Any) -> bool:
        """Tell whether there is a file or a folder."""
        return bool(retried(lambda: file_system(self.url).exists(self.url), self))

    def is_file(self, **_: Any) -> bool:
        """Tell whether there is a file."""
        try:
            return self.version.size >= 0
        except OSError:
            return False

    def is_dir(self, **_: Any) -> bool:
        """Tell whether there is a folder, which is what objects with this beginning are."""
        try:
            return bool(retried(lambda: file_system(self.url).isdir(self.url), self))
        except OSError:
            return False

    def stat(self, **_: Any) -> os.stat_result:
        """Return the size, as that of a regular file.

        Raises:
            OSError: see `version`.
        """
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, self.version.size, 0, 0, 0))

    def read_bytes(self) -> bytes:
        """Return the whole content, in one read, as long as the server said it is.

        What fails for a moment is tried again, with longer and longer pauses.

        Raises:
            OSError: it cannot be read; the text of the error says why.
        """
        return retried(self._read, self)

    def open(self, mode: str = "r", *_: Any, **options: Any) -> IO[Any]:  # type: ignore[override] # read-only
        """Return the content as a file in memory."""
        if mode not in ("r", "rb"):
            raise OSError(f"{self}: is only read")
        data = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return data
        return io.TextIOWrapper(
            data, encoding=options.get("encoding"), newline=options.get("newline")
        )

    def _read(self) -> bytes:
        known = self._known
        if known is not None and known.size > _MAX_BYTES:
            raise OSError(0, f"{known.size} bytes is past the limit of {_MAX_BYTES}")
        files = file_system(self.url)
        data: bytes = files.cat_file(self.url)
        if known is None or _is_whole(data, known, self.url):
            return data
        # Replaced since it was listed, or cut off on the way: only what the server says now tells.
        now = version_of(files.info(self.url))
        if now != known and len(data) == now.size:
            self._known = now
            return data
        if len(data) != now.size:
            raise _Damaged(f"{len(data)} bytes came where the server says {now.size}")
        if data != files.cat_file(self.url):
            raise _Damaged("its content differs from one read to the next")
        # What comes twice is the content, and the ETag of another kind, as of encrypted objects.
        log.warning(
            "%s: its ETag is not that of its content, which came twice alike; from now on only "
            "lengths are compared there",
            self,
        )
        _OTHER_ETAGS.add(_store(self.url))
        return data


class _Damaged(OSError):
    """A content did not come as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(0, text)


def location(text: StrPath) -> Path:
    """Return a path, remote where the text is a URL."""
    if isinstance(text, Path):
        return text
    return RemotePath(text) if isinstance(text, str) and is_url(text) else Path(text)


def read_picture(path: Path, geometry: Geometry) -> NDArray[Any]:
    """Return the pixels of a file, local or at a URL, as `fic_runtime.images.read_image` does.

    Raises:
        ImageError: the file cannot be read or is not a picture.
    """
    if not isinstance(path, RemotePath):
        return read_image(path, geometry=geometry)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be read ({error.strerror}); run again or leave it out"
        ) from error
    return decode_image(data, name=str(path), geometry=geometry)


def is_url(text: str) -> bool:
    """Tell whether a text begins as a URL does."""
    return _URL.match(text) is not None


def local(path: Path) -> Path:
    """Return a folder of this machine: of a URL, the one for its local copy."""
    return path.local_copy if isinstance(path, RemotePath) else path


def redacted(url: str) -> str:
    """Return a URL without user, password and what looks like a signature in its query."""
    start, query = _parted(url)
    scheme, marks, rest = start.partition("://")
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = "***@" + host.rpartition("@")[2]
    pairs = (_redacted_pair(pair) for pair in query[1:].split("&")) if query else ()
    return f"{scheme}{marks}{host}{slash}{path}{query[:1]}{'&'.join(pairs)}"


def _redacted_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return pair if len(pair) <= _LONGEST_PLAIN_VALUE else "***"
    plain = len(value) <= _LONGEST_PLAIN_VALUE and not _SECRET.search(name)
    return pair if plain else f"{name}=***"


def _parted(url: str) -> tuple[str, str]:
    """Return a URL up to its query, and the query with its question mark."""
    if not url.lower().startswith(("http:", "https:")):  # elsewhere it is part of a key
        return url, ""
    start, mark, query = url.partition("?")
    return start, mark + query


def _bare(url: str) -> str:
    return redacted(_parted(url)[0])


@lru_cache(maxsize=64)
def _file_system(protocol: str, host: str, process: int) -> Any:
    return _open_file_system(protocol, f"{protocol}://{host}/")


def file_system(url: str) -> Any:
    """Return fsspec's file system for a URL, which is kept.

    Raises:
        DataError: fsspec, or what it needs for this protocol, is not installed; or the URL names
            no bucket or host.
    """
    protocol, _, rest = url.partition("://")
    if protocol in _WITH_HOST and not rest.partition("/")[0]:
        raise DataError(f"{redacted(url)}: names no bucket or host; give {protocol}://NAME/FOLDER")
    # By process: the connections of a parent are of no use to a child.
    return _file_system(protocol, rest.partition("/")[0], os.getpid())


def _open_file_system(protocol: str, url: str) -> Any:
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise DataError(f"{redacted(url)}: needs fsspec; {EXTRA}") from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    given = conf.get(protocol, {})
    timeout = timeout_seconds()
    if protocol in ("s3", "s3a") and "config_kwargs" not in given:
        # Attempts and pauses are `retried`'s, or there would be three layers of them.
        retries = {"total_max_attempts": 1, "mode": "standard"}
        waits = {"connect_timeout": timeout, "read_timeout": timeout}
        options["config_kwargs"] = {"retries": retries, **waits, "max_pool_connections": 64}
    if protocol in ("http", "https") and "client_kwargs" not in given:
        options["client_kwargs"] = {"timeout": _http_timeout(timeout)}
    try:
        files, _ = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise DataError(
            f"{redacted(url)}: fsspec needs another package for {protocol}:// "
            f"({one_line(error)}); {EXTRA} brings s3fs, others are named by fsspec"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{redacted(url)}: {one_line(error)}; give a URL of a protocol that fsspec knows, "
            "such as s3:// or https://"
        ) from error
    if protocol in ("s3", "s3a"):
        files.retries = 1
        files.max_concurrency = 1  # or each read asks for the size first
    return files


def timeout_seconds() -> float:
    """Return how long a server may be silent: FIC_REMOTE_TIMEOUT, else 60 s.

    Raises:
        DataError: it is not a number above zero.
    """
    text = os.environ.get("FIC_REMOTE_TIMEOUT") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise DataError(f"FIC_REMOTE_TIMEOUT is {text!r}; set it to a number of seconds")
    return seconds


def _http_timeout(seconds: float) -> Any:
    try:
        import aiohttp
    except ImportError:
        return None  # fsspec says what is missing
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)


def retried(action: Callable[[], _Result], path: Path) -> _Result:
    """Do what may fail for a moment, with longer and longer pauses between the attempts.

    Raises:
        OSError: it failed for good; `strerror` is the reason in a few words, without the path.
        DataError: a package is missing.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except DataError:
            raise
        except Exception as error:
            # Any: each protocol of fsspec has errors of its own, below no common class.
            reason, is_final = _reason(error)
            if is_final or attempt == ATTEMPTS:
                tries = "" if is_final else f", {ATTEMPTS} attempts"
                kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
                raise kind(0, f"{reason}{tries}", str(path)) from error
            log.info("%s: %s; trying again in %.1f s", path, reason, pause)
        time.sleep(pause * random.uniform(0.75, 1.25))  # so that many do not come back at once
        pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _reason(error: Exception) -> tuple[str, bool]:
    """Return in a few words why an access failed, and whether it always will."""
    text = redacted_text(one_line(error))
    if isinstance(error, FileNotFoundError):
        return "no such file or folder", True
    status = getattr(error, "status", None)  # of aiohttp
    if isinstance(error, PermissionError) or status in (401, 403):
        return "not permitted; check the credentials", True
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials; set those of this store", True
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return f"the server answers {status}", True
    if isinstance(error, _Damaged):
        return str(error.strerror), False
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return f"no answer within {timeout_seconds():g} s", False
    if isinstance(error, OSError) and error.strerror:
        return redacted_text(error.strerror), False
    return text or type(error).__name__, isinstance(error, TypeError | AttributeError | ValueError)


def redacted_text(text: str) -> str:
    """Return a text in which every URL is redacted."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+", lambda found: redacted(found[0]), text)


def version_of(entry: dict[str, Any]) -> Version:
    """Return the version that an entry of fsspec tells of."""
    names = ("ETag", "etag", "md5Hash", "md5", "sha256")
    etag = next((str(entry[name]) for name in names if entry.get(name)), "").strip('"')
    times = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")
    moment = next((str(entry[name]) for name in times if entry.get(name)), "")
    return Version(int(entry.get("size") or 0), etag or moment, etag)


def _is_whole(data: bytes, version: Version, url: str) -> bool:
    if len(data) != version.size and (version.size or not data):
        return False
    # Only S3 says what its ETags are: the MD5 of what was put in one piece and not encrypted.
    if not url.startswith("s3") or not _MD5.fullmatch(version.etag):
        return True
    right = hashlib.md5(data, usedforsecurity=False).hexdigest() == version.etag
    return right or _store(url) in _OTHER_ETAGS


def _store(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
