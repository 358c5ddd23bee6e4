"""A cache in object storage: shards are whole objects that are written once and never changed.

Nothing there is renamed, locked or rewritten, so no rule of the cache depends on what an object
store lacks. A process works on a local copy of the fingerprint's folder: a new shard is written
there and then put under its name, a shard of others is fetched when it is first needed. Of each
shard the keys stay (`index-*.npz`); the shards themselves are removed, those used longest ago
first, where they are more than FIC_REMOTE_CACHE_GB. A shard without an index is one that could not
be put yet, and goes with the next opening.
"""

import json
import logging
import os
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Lock

import numpy as np

from fic_runtime.bundle.names import is_file_name

from ..data.remote import RemotePath, Version, file_system, local, retried, version_of
from ..errors import CacheError
from ..fingerprint import Fingerprint
from ..options import Compression
from .keys import KEY_SIZE
from .locks import new_temporary, publish
from .rows import ShardFiles
from .shards import ROW, DamagedShard, Shard, open_plain, open_shard, shard_paths
from .store import FINGERPRINT_FILE, BottleneckCache

log = logging.getLogger(__name__)

MOST_GIGABYTES = 20.0
"""Of the shards of one fingerprint in the local copy, unless FIC_REMOTE_CACHE_GB says otherwise."""

_FETCHED_AT_ONCE = 8


def open_cache(
    directory: Path, fingerprint: Fingerprint, *, compression: Compression = "none"
) -> BottleneckCache:
    """Open the bottlenecks of one fingerprint in a cache directory, local or at a URL.

    Raises:
        CacheError: see `BottleneckCache`; or the URL cannot be listed.
    """
    if isinstance(directory, RemotePath):
        return RemoteCache(directory, fingerprint, compression=compression)
    return BottleneckCache(directory, fingerprint, compression=compression)


class RemoteCache(BottleneckCache):
    """The bottlenecks of one fingerprint at a URL.

    Args:
        directory: URL of the cache directory; all fingerprints share it.
        fingerprint: what the bottlenecks depend on.
        compression: how rows that are written now are stored.

    Raises:
        CacheError: it cannot be listed, or the local copy cannot be made.
    """

    def __init__(
        self, directory: RemotePath, fingerprint: Fingerprint, *, compression: Compression = "none"
    ) -> None:
        self._store = ShardStore(directory, fingerprint)
        self._store.describe()
        super().__init__(local(directory), fingerprint, compression=compression)
        self._files = ShardFiles(self._store.open)

    def _present_shards(self) -> list[Path]:
        return self._store.synchronize()

    def _open_shard(self, path: Path) -> Shard:
        return self._store.shard(path)

    def _take_in(self, path: Path) -> None:
        self._store.put(path)
        super()._take_in(path)

    def _merge(self) -> None:
        """Leave the copies as they are: each is that of an object, which is never rewritten."""

    def _set_aside(self, path: Path, reason: str) -> None:
        """Leave a shard out, and fetch it anew another time: the copy may be what is damaged."""
        self._damaged.add(str(path))
        self._store.drop(path)
        log.warning("%s: left out (%s)", self._store.url(path), reason)


class ShardStore:
    """The objects of one fingerprint, and their copies in a local folder."""

    def __init__(self, directory: RemotePath, fingerprint: Fingerprint) -> None:
        self._remote = directory / fingerprint.folder_name
        self._folder = local(directory) / fingerprint.folder_name
        self._fingerprint = fingerprint
        self._versions: dict[str, Version] = {}
        self._guard = Lock()
        self._most = _most_bytes()

    def url(self, path: Path) -> RemotePath:
        """Return the URL of a shard."""
        return self._remote / path.name

    def describe(self) -> None:
        """Write down what the bottlenecks depend on; a store that is only read does without.

        So a bucket that is not there is found out before anything is extracted.

        Raises:
            CacheError: there is no such bucket, or it cannot be reached.
        """
        target = self._remote / FINGERPRINT_FILE
        text = (json.dumps(self._fingerprint.to_dict(), indent=2) + "\n").encode()
        try:
            if not target.is_file():
                retried(lambda: file_system(target.url).pipe_file(target.url, text), target)
        except OSError as error:
            if isinstance(error.__cause__, PermissionError):
                log.info("%s: cannot be written (%s)", target, error.strerror)
                return
            raise CacheError(
                f"{self._remote.parent}: cannot be used ({error.strerror}); make the bucket or "
                "give another --bottleneck-dir"
            ) from error

    def synchronize(self) -> list[Path]:
        """Put what is not there yet, and return where the copy of each shard is or would be.

        Raises:
            CacheError: a shard cannot be put.
            OSError: the URL cannot be listed.
        """
        self._versions = self._listed()
        indexed = {name[len("index-") : -len(".npz")] for name in _names(self._folder, "index-")}
        for path in shard_paths(self._folder):
            if path.stem not in indexed and path.name not in self._versions:
                self.put(path)
            elif path.name not in self._versions:  # removed there
                self.drop(path)
        fresh = [name for name in self._versions if Path(name).stem not in indexed]
        with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
            list(pool.map(self._note, (self._folder / name for name in fresh)))
        return [self._folder / name for name in sorted(self._versions)]

    def shard(self, path: Path) -> Shard:
        """Return keys and places of a shard, without its copy where they are known.

        Raises:
            DamagedShard: it is not a whole shard of this fingerprint.
            CacheError: it cannot be fetched.
        """
        try:
            with np.load(_index(path), allow_pickle=False) as index:
                keys, rows = index["keys"], index["rows"]
            if keys.dtype == f"S{KEY_SIZE}" and rows.dtype == ROW and keys.shape == rows.shape:
                return Shard(path, keys, rows)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.debug("%s: %s", _index(path), error)
        if not path.exists():
            self._fetch(path)
        shard = open_shard(path, self._fingerprint)
        with new_temporary(path.parent) as file:
            publish(file, _npz(shard), _index(path))
        self._make_room(0, path)
        return shard

    def open(self, path: str) -> FileIO:
        """Open the copy of a shard, which is fetched if it is not there.

        Raises:
            CacheError: it cannot be fetched.
        """
        try:
            file = open_plain(path)
        except FileNotFoundError:
            self._fetch(Path(path))
            file = open_plain(path)
        os.utime(path)
        return file

    def put(self, path: Path) -> None:
        """Put a shard under its name, as one object.

        Raises:
            CacheError: it cannot be put; the copy stays and is put when the cache is opened again.
        """
        target, data = self.url(path), path.read_bytes()

        def action() -> Version:
            files = file_system(target.url)
            files.pipe_file(target.url, data)
            version = version_of(files.info(target.url))
            if version.size != len(data):
                raise OSError(0, f"{version.size} of {len(data)} bytes arrived")
            return version

        try:
            self._versions[path.name] = retried(action, target)
        except OSError as error:
            raise CacheError(
                f"{target}: cannot be written ({error.strerror}); its {len(data)} bytes are kept "
                "on this machine, and the next command with this --bottleneck-dir writes them"
            ) from error
        self.shard(path)

    def drop(self, path: Path) -> None:
        """Remove the copy of a shard."""
        _index(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _listed(self) -> dict[str, Version]:
        def ask() -> Mapping[str, dict[str, object]]:
            files = file_system(self._remote.url)
            try:
                found: Mapping[str, dict[str, object]] = files.find(
                    self._remote.url, detail=True, maxdepth=1
                )
            except FileNotFoundError:
                return {}
            return found

        entries = retried(ask, self._remote)
        named = {name.rpartition("/")[2]: entry for name, entry in entries.items()}
        return {
            name: version_of(entry)
            for name, entry in named.items()
            if name.startswith("shard-") and name.endswith(".h5") and is_file_name(name)
        }

    def _note(self, path: Path) -> None:
        """Make the index of a shard, so that its copy may go."""
        try:
            self.shard(path)
        except (DamagedShard, FileNotFoundError) as error:
            log.debug("%s: %s", path, error)  # said when the cache takes it in

    def _fetch(self, path: Path) -> None:
        version = self._versions.get(path.name)
        source = RemotePath(self.url(path).url, version)
        try:
            data = source.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CacheError(
                f"{source}: cannot be read ({error.strerror}); check the network and run again"
            ) from error
        self._make_room(len(data), path)
        try:
            with new_temporary(path.parent) as file:
                publish(file, data, path)
        except OSError as error:
            raise CacheError(
                f"{path}: cannot be written ({error.strerror}); make room, or set "
                "FIC_REMOTE_CACHE_GB or FIC_CACHE_DIR"
            ) from error

    def _make_room(self, size: int, kept: Path) -> None:
        """Remove copies, those used longest ago first, until `size` more bytes may come."""
        with self._guard:
            copies = []
            for path in shard_paths(self._folder):
                with suppress(FileNotFoundError):
                    copies.append((path.stat().st_mtime, path.stat().st_size, path))
            total = size + sum(length for _, length, _ in copies)
            for _, length, path in sorted(copies, key=lambda copy: copy[0]):
                if total <= self._most:
                    return
                # Without an index it is being taken in, or not put yet.
                if path != kept and _index(path).exists():
                    path.unlink(missing_ok=True)
                    total -= length


def _index(path: Path) -> Path:
    return path.with_name(f"index-{path.stem}.npz")


def _npz(shard: Shard) -> memoryview:
    from io import BytesIO

    image = BytesIO()
    np.savez(image, keys=shard.keys, rows=shard.rows)
    return image.getbuffer()


def _names(folder: Path, prefix: str) -> Iterable[str]:
    names = sorted(os.listdir(folder))  # noqa: PTH208  # an unreadable folder is an error
    return [name for name in names if name.startswith(prefix)]


def _most_bytes() -> float:
    text = os.environ.get("FIC_REMOTE_CACHE_GB") or str(MOST_GIGABYTES)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not gigabytes > 0:
        raise CacheError(f"FIC_REMOTE_CACHE_GB is {text!r}; set it to a number of gigabytes")
    return gigabytes * 1e9
