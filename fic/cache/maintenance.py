"""Maintenance of a cache: `fic cache info | verify | compact | prune`, `--create-bottleneck`."""

import logging
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

import numpy as np

from fic_runtime.reading import read_json

from ..data.remote import RemotePath
from ..digests import DIGEST_SIZE
from ..errors import CacheError, one_line
from ..fingerprint import Fingerprint
from ..progress import Progress, Silence
from .compaction import Mask, first_copies, rewrite_shards
from .keys import KeyIndex, Keys
from .locks import (
    SharedLock,
    abandoned_temporaries,
    hold_exclusively,
    last_used,
    remove_abandoned_temporaries,
)
from .rows import checked_pieces
from .shards import DamagedShard, Shard, damaged_paths, open_shard, set_aside, shard_paths
from .store import FINGERPRINT_FILE, MOST_DESCRIPTION_BYTES
from .writer import COMMIT_BYTES

log = logging.getLogger(__name__)

_DAY = 86400.0
# What fic puts into a folder of the cache, and so may remove with it.
_OWN = re.compile(
    r"lock|fingerprint\.json|base\.onnx|base\.json|tmp-.*|(damaged-)*shard-[0-9a-f]{32}\.h5"
)


@dataclass(frozen=True, kw_only=True)
class FolderInfo:
    """One fingerprint's folder: `images` counts different keys, `bytes` all files.

    Times are seconds since 1970; `oldest` and `newest` are those of shards.
    """

    path: Path
    fingerprint: Fingerprint
    shards: int
    images: int
    duplicates: int
    bytes: int
    oldest: float | None
    newest: float | None
    used: float
    damaged: tuple[Path, ...]
    temporaries: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """Result of a verification; damaged shards under the names they have now."""

    shards: int
    images: int
    damaged: tuple[Path, ...]


@dataclass(kw_only=True)
class CompactReport:
    """Shards and bytes before and after, and how many second copies were dropped."""

    shards_before: int = 0
    shards_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    duplicates: int = 0


@dataclass(kw_only=True)
class PruneReport:
    """Removed folders, single files and entries of shards, and bytes in all."""

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    images: int = 0
    bytes: int = 0


def cache_info(directory: Path | str) -> list[FolderInfo]:
    """Describe each fingerprint of a cache directory, sorted by folder; changes nothing.

    Raises:
        CacheError: the directory does not exist.
    """
    return [_describe(folder, own) for folder, own in _folders(directory)]


def verify_cache(directory: Path | str, *, progress: Progress | None = None) -> VerifyReport:
    """Compare every checksum of every shard, and set damaged shards aside.

    Raises:
        CacheError: the directory does not exist, or a file cannot be read.
    """
    shards = images = 0
    damaged: list[Path] = []
    for folder, fingerprint in _folders(directory):
        lock = SharedLock(folder)
        try:
            good, bad = _verify(folder, fingerprint, progress or Silence())
        finally:
            lock.release()
        shards += len(good) + len(bad)
        images += sum(len(shard.keys) for shard in good)
        damaged += bad
    return VerifyReport(shards=shards, images=images, damaged=tuple(damaged))


def compact_cache(directory: Path | str, *, progress: Progress | None = None) -> CompactReport:
    """Merge small shards into shards of 64 MB and drop second copies of a bottleneck.

    All checksums are compared first. Old shards go only when the new ones are on the disk, so a
    kill leaves second copies at worst.

    Raises:
        CacheError: the directory does not exist, a folder of it is in use, or the disk is full.
    """
    report = CompactReport()
    for folder, fingerprint in _folders(directory):
        with hold_exclusively(folder):
            remove_abandoned_temporaries(folder)
            shards, _ = _verify(folder, fingerprint, progress or Silence())
            report.shards_before += len(shards)
            report.bytes_before += _total_size(shard.path for shard in shards)
            kept = first_copies(shards)
            report.duplicates += sum(int(np.count_nonzero(~mask)) for mask in kept)
            touched = [
                (shard, mask)
                for shard, mask in zip(shards, kept, strict=True)
                if not mask.all() or 2 * shard.path.stat().st_size < COMMIT_BYTES
            ]
            # A single small shard has nothing to be merged with.
            if len(touched) > 1 or not all(mask.all() for _, mask in touched):
                rewrite_shards(folder, fingerprint, touched)
            after = shard_paths(folder)
            report.shards_after += len(after)
            report.bytes_after += _total_size(after)
    return report


def prune_cache(
    directory: Path | str,
    *,
    keep: Collection[bytes] | None = None,
    unused_days: float | None = None,
    fingerprints: Collection[str] = (),
    damaged: bool = False,
    progress: Progress | None = None,
) -> PruneReport:
    """Remove folders, files and entries; temporaries without a writer go in any case.

    Args:
        keep: the 16-byte digests that keys may begin with; entries of others are removed.
        unused_days: folders that were not opened for so many days are removed whole.
        fingerprints: names of folders that are removed whole.
        damaged: remove the files that were set aside.

    Raises:
        CacheError: the directory or the folder does not exist, or a folder to be changed is in use.
    """
    folders = list(_folders(directory))
    if unknown := sorted(set(fingerprints) - {folder.name for folder, _ in folders}):
        raise CacheError(
            f"{directory}: has no folder {unknown[0]}; it has "
            f"{', '.join(folder.name for folder, _ in folders) or 'none'}"
        )
    before = time.time() - unused_days * _DAY if unused_days is not None else -1.0
    report = PruneReport()
    for folder, fingerprint in folders:
        if folder.name in fingerprints or last_used(folder) < before:
            with hold_exclusively(folder):
                report.bytes += _remove_folder(folder)
            report.folders.append(folder)
            continue
        if damaged:
            for path in damaged_paths(folder):
                report.bytes += _total_size([path])
                _unlink(path)
                report.files.append(path)
        report.files += remove_abandoned_temporaries(folder)
        if keep is not None:
            with hold_exclusively(folder):
                _keep_only(folder, fingerprint, keep, report, progress or Silence())
    return report


def remove_entries(directory: Path | str, fingerprint: Fingerprint, keys: Keys) -> int:
    """Remove single bottlenecks of one fingerprint, and return how many there were.

    Raises:
        CacheError: the fingerprint's folder is in use or cannot be rewritten, or the cache is at a
            URL.
    """
    if isinstance(directory, RemotePath):
        raise CacheError(
            f"{directory}: --create-bottleneck rewrites shards, and in object storage they are "
            "written once; give another --bottleneck-dir"
        )
    folder = Path(directory) / fingerprint.folder_name
    if not folder.is_dir():
        return 0
    with hold_exclusively(folder):
        shards, _ = _verify(folder, fingerprint, Silence())
        removed = _rows_of(shards, keys)
        rewrite_shards(
            folder,
            fingerprint,
            [(shard, ~mask) for shard, mask in zip(shards, removed, strict=True) if mask.any()],
        )
    return sum(int(np.count_nonzero(mask)) for mask in removed)


def _folders(directory: Path | str) -> Iterator[tuple[Path, Fingerprint]]:
    directory = Path(directory)
    if not directory.is_dir():
        raise CacheError(
            f"{directory}: no cache there; give --bottleneck-dir the folder that `fic train` filled"
        )
    for path in sorted(directory.glob(f"*/{FINGERPRINT_FILE}")):
        if path.parent.is_symlink():
            log.warning("%s: left out, it is a link", path.parent)
            continue
        try:
            values = read_json(path, MOST_DESCRIPTION_BYTES, follow_link=False)
            fingerprint = Fingerprint.from_dict(values)
        except (CacheError, OSError, TypeError, ValueError) as error:
            log.warning("%s: left out, %s", path, one_line(error))
            continue
        # Of another release, or renamed: its shards would all look like those of another base.
        if path.parent.name != fingerprint.folder_name:
            log.warning("%s: left out, it is not a folder of this release's format", path.parent)
            continue
        yield path.parent, fingerprint


def _describe(folder: Path, fingerprint: Fingerprint) -> FolderInfo:
    index = KeyIndex()
    damaged = damaged_paths(folder)
    times: list[float] = []
    keys: list[Keys] = []
    for path in shard_paths(folder):
        try:
            keys.append(open_shard(path, fingerprint).keys)
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
        except DamagedShard as error:
            log.warning("%s: %s", path, error)
            damaged.append(path)
        except OSError as error:  # which says nothing of what is in it
            log.warning(
                "%s: not counted, it cannot be read (%s); check its permissions and the disk",
                path,
                error.strerror,
            )
    if keys:
        merged = np.concatenate(keys)
        index.add(merged, np.arange(len(merged), dtype=np.int64))
    return FolderInfo(
        path=folder,
        fingerprint=fingerprint,
        shards=len(keys),
        images=len(index),
        duplicates=sum(map(len, keys)) - len(index),
        bytes=_total_size(folder.rglob("*")),
        oldest=min(times, default=None),
        newest=max(times, default=None),
        used=last_used(folder),
        damaged=tuple(damaged),
        temporaries=tuple(abandoned_temporaries(folder)),
    )


def _verify(
    folder: Path, fingerprint: Fingerprint, progress: Progress
) -> tuple[list[Shard], list[Path]]:
    """Return the good shards, and the damaged ones under the names they have now."""
    good: list[Shard] = []
    damaged: list[Path] = []
    paths = shard_paths(folder)
    progress.start(f"verifying {folder.name}", len(paths), unit="shard")
    for path in paths:
        try:
            shard = open_shard(path, fingerprint)
            for _ in checked_pieces(shard, fingerprint):
                pass
            good.append(shard)
        except FileNotFoundError:
            continue
        except DamagedShard as error:
            damaged.append(set_aside(path, str(error)) or path)
        except OSError as error:
            raise CacheError(
                f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
            ) from error
        finally:
            progress.advance(1)
    progress.finish()
    return good, damaged


def _keep_only(
    folder: Path,
    fingerprint: Fingerprint,
    digests: Collection[bytes],
    report: PruneReport,
    progress: Progress,
) -> None:
    wanted = np.array(list(digests), f"S{DIGEST_SIZE}")
    shards, _ = _verify(folder, fingerprint, progress)
    kept = _rows_of(shards, wanted)
    touched = [(shard, mask) for shard, mask in zip(shards, kept, strict=True) if not mask.all()]
    before = _total_size(shard_paths(folder))
    rewrite_shards(folder, fingerprint, touched)
    report.images += sum(int(np.count_nonzero(~mask)) for _, mask in touched)
    report.bytes += before - _total_size(shard_paths(folder))


def _rows_of(shards: Sequence[Shard], wanted: Keys) -> list[Mask]:
    """Return for each shard which of its rows have a key that is, or begins with, a wanted one."""
    if not shards:
        return []
    # All at once: for each shard the wanted keys would be sorted anew.
    keys = np.concatenate([shard.keys for shard in shards])
    counts = [len(shard.keys) for shard in shards]
    # Fixed-width strings: the cast to the digest alone cuts the view's number off.
    return np.split(np.isin(keys.astype(wanted.dtype), wanted), np.cumsum(counts)[:-1])


def _remove_folder(folder: Path) -> int:
    """Remove a folder of the cache, and return the bytes that it had.

    What fic did not write stays, with its folder.
    """
    own = [path for path in sorted(folder.iterdir()) if _OWN.fullmatch(path.name)]
    # The lock last: it keeps others out until the rest is gone.
    own.sort(key=lambda path: path.name == "lock")
    size = _total_size(own)
    try:
        for path in own:
            _unlink(path)
        if others := sorted(folder.iterdir()):
            log.warning("%s: stays, fic did not write %s", folder, others[0].name)
        else:
            folder.rmdir()
    except OSError as error:
        raise _not_removed(folder, error) from error
    return size


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _not_removed(path, error) from error


def _not_removed(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{error.filename or path}: cannot be removed ({error.strerror}); ask whoever owns it"
    )


def _total_size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process has just renamed or removed it
            continue
        if S_ISREG(status.st_mode):
            total += status.st_size
    return total
