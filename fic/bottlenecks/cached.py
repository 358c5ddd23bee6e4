"""Bottlenecks of data sets: looked up in the cache, checked, and extracted where missing."""

import math
import os
import random
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.images.picture_files import FileUse

from ..bases.keras_setup import keras_settings
from ..bases.opening import AnyBase, open_base
from ..cache import BottleneckCache
from ..cache.keys import key_digests, make_keys
from ..cache.maintenance import remove_entries
from ..cache.remote import open_cache
from ..data import Dataset, Pictures, Source, read_pictures
from ..data.dataset import Skipped
from ..data.duplicates import Duplicates
from ..data.file_memo import FileDigests
from ..data.remote import RemotePath
from ..digests import digest_file
from ..errors import CacheError
from ..options import BaseOptions, CacheOptions
from ..progress import Progress, shown
from .engines import ChosenEngine, Engine, choose_engine
from .extraction import Picture, bottlenecks_of, extract
from .single_reading import FirstReading, MakeExtraction

# The self-check: how many entries, and how far they may be from a fresh extraction, relative to
# the largest value. Engines differ by 1e-3 at most and float16 rounds by 5e-4; stale weights or
# other preprocessing differ by 1e-1 and more.
_CHECKED = 3
_CHECK_TOLERANCE = 1e-2
# Rows read at once for statistics and for evaluation.
_BLOCK = 512
# Bottlenecks that are read at once in an epoch, for many batches.
_BYTES_READ = 16 << 20
# A file that has to be read from the disk is read in blocks: where the bottlenecks are more than
# this share of the machine's memory, an epoch shuffles blocks of so many pictures, and the
# pictures of so many bytes of blocks among each other (docs/why/training.md).
_MOST_OF_MEMORY = 0.5
_BLOCK_SHUFFLED = 32
_BYTES_MIXED = 128 << 20
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Bottlenecks that are kept in memory through a training, of each part of the data set.
_MOST_BYTES_HELD = 64 << 20


@dataclass(frozen=True)
class Bottlenecks:
    """A data set whose bottlenecks are in the cache.

    `rows[i, v]` is where the bottleneck of view v of picture i lies in the cache.
    """

    cache: BottleneckCache
    dataset: Dataset
    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one bottleneck."""
        return self.cache.fingerprint.shape

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of `targets`."""
        return self.dataset.labels

    @property
    def targets(self) -> NDArray[Any]:
        """Index of each picture's class, shape (pictures,)."""
        return np.asarray(self.dataset.targets)

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the float32 bottlenecks at these rows, shape (len(rows), *shape)."""
        if self._held is None:
            return self.cache.read(rows)
        held_rows, held = self._held
        return held[np.searchsorted(held_rows, rows)]

    @cached_property
    def _held(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """All rows and their bottlenecks, where they are few: no epoch then reads a file."""
        if 4 * self.rows.size * math.prod(self.shape) > _MOST_BYTES_HELD:
            return None
        rows = np.unique(self.rows)
        return rows, self.cache.read(rows)

    def epoch(
        self, random: np.random.Generator, batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        """Yield each picture once, in a new order, as one of its views; see `TrainingData`."""
        count, views = self.rows.shape
        is_large = 4 * self.rows.size * math.prod(self.shape) > _MOST_OF_MEMORY * _memory_bytes()
        # As many batches at once as are read from the files in one go, in the order of the files.
        part = _whole_batches(_BYTES_MIXED if is_large else _BYTES_READ, self.shape, batch_size)
        order = _block_order(random, count, part) if is_large else random.permutation(count)
        rows = self.rows[order, random.integers(views, size=count)]
        targets = self.targets[order]
        if self._held is None:
            # In their order in the files, also where the epoch reads all of them in a random one.
            self.cache.announce(np.sort(rows[:part] if is_large else rows))
        for start in range(0, count, part):
            if is_large:
                self.cache.announce(np.sort(rows[start + part : start + 2 * part]))
            batches = self._batches(rows[start : start + part], batch_size)
            for number, block in enumerate(batches):
                first = start + number * batch_size
                yield block, targets[first : first + batch_size]
        return ()

    def _batches(self, rows: NDArray[Any], batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield the bottlenecks at these rows in batches, read from the files in one go."""
        starts = range(0, len(rows), batch_size)
        if self._held is not None:
            yield from (self.read(rows[start : start + batch_size]) for start in starts)
            return
        wanted, places = np.unique(rows, return_inverse=True)
        block = self.read(wanted)
        yield from (block[places[start : start + batch_size]] for start in starts)

    def plain(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the plain view's bottlenecks."""
        return self._blocks(self.rows[:, 0])

    def plain_rows(self, pictures: Sequence[int]) -> NDArray[Any]:
        """Return the plain view's bottlenecks of these pictures, (len(pictures), width).

        A feature map counts as its mean.
        """
        rows = self.read(self.rows[np.asarray(pictures, np.int64), 0])
        mean: NDArray[Any] = rows.reshape(len(rows), -1, self.shape[-1]).mean(axis=1)
        return mean

    def for_statistics(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the bottlenecks of all views."""
        return self._blocks(self.rows.ravel())

    def close(self) -> None:
        """Close the cache."""
        self.cache.close()

    def _blocks(self, rows: NDArray[Any]) -> Generator[NDArray[Any], None, None]:
        for start in range(0, len(rows), _BLOCK):
            yield self.read(rows[start : start + _BLOCK])


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """Use of the cache: bottlenecks found in it, and bottlenecks extracted.

    `hits` and `extracted` count bottlenecks: one for each view of each different picture. `files`
    says what became of all files that were found, `skipped` which pictures cannot be read.
    """

    hits: int = 0
    extracted: int = 0
    skipped: Sequence[Skipped] = ()
    engine: str | None = None
    seconds: float = 0.0
    files: FileUse = field(default=FileUse(), repr=False)
    duplicates: Duplicates = field(default=Duplicates(), repr=False)

    def files_record(self) -> dict[str, Any]:
        """Return for JSON which files were skipped, left out, doubled, and used by content."""
        return {
            "files": {"used": self.files.used, "left_out": len(self.files.left_out)},
            "skipped_files": [
                {"file": str(picture.path), "reason": picture.reason} for picture in self.skipped
            ],
            "left_out_files": [
                {"file": str(each.path), "kind": each.kind} for each in self.files.left_out
            ],
            "files_by_content": [str(path) for path in self.files.by_content],
            "duplicates": self.duplicates.to_dict(),
        }


def prepare(
    pictures: Pictures,
    base: AnyBase,
    options: CacheOptions,
    progress: Progress,
    reading: FirstReading | None = None,
) -> tuple[Bottlenecks, Bottlenecks, CacheUse]:
    """Return the bottlenecks of training and validation pictures, extracting what is missing.

    Training pictures have `options.views` views, validation pictures the plain one. On a warm
    cache a few entries are extracted again and compared before anything is trained on them.

    Args:
        reading: who read the pictures, and extracted bottlenecks on the way.

    Raises:
        ImageError: a picture cannot be decoded, and the options say to stop then.
        CacheError: the cache cannot be used, or holds other bottlenecks than the base gives.
    """
    started = time.perf_counter()
    wanted = _Wanted()
    duplicates = pictures.note_duplicates(progress)
    train = wanted.add(pictures.train, pictures.digests, options.views)
    val = wanted.add(pictures.val, pictures.digests, 1)
    if options.recompute and not (reading and reading.has_removed):
        # Removed first, not passed over: no later run may find the old ones beside the new.
        remove_entries(options.bottleneck_dir, base.fingerprint, wanted.keys())
    # Nobody else is kept from a new cache while the base is converted for it, which takes its time.
    is_new = bool(pictures.digests) and not base.folder.is_dir()
    chosen = choose_engine(options.engine, base) if is_new else None
    cache = open_cache(options.bottleneck_dir, base.fingerprint, compression=options.compression)
    try:
        rows, use = _fill(cache, wanted, base, options, progress, chosen)
    except BaseException:
        cache.close()
        raise
    base.keep_weights()
    use = replace(
        use,
        skipped=(*pictures.skipped, *_with_copies(use.skipped, pictures)),
        files=pictures.files,
        duplicates=duplicates,
        seconds=time.perf_counter() - started,
    )
    if reading is not None:
        use = replace(
            use,
            hits=use.hits - reading.extracted,
            extracted=use.extracted + reading.extracted,
            engine=reading.engine or use.engine,
            seconds=use.seconds + reading.seconds,
        )
    return (
        _found(cache, pictures.train, rows[train]),
        _found(cache, pictures.val, rows[val]),
        use,
    )


@keras_settings()
def fill_cache(
    source: Source,
    *,
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    shard: tuple[int, int] | None = None,
    progress: Progress | bool | None = None,
    extraction: MakeExtraction | None = None,
) -> CacheUse:
    """Extract the bottlenecks that the cache lacks, without training.

    Args:
        shard: (i, n) takes the i-th of n parts of the pictures, from 1, by their content.
        extraction: who extracts; by default this process.

    Raises:
        See `fic.training.pipeline.train`.
    """
    base, cache, progress = base or BaseOptions(), cache or CacheOptions(), shown(progress)
    source.keep_apart(cache.bottleneck_dir)
    frozen = open_base(base, cache.bottleneck_dir, dtype=cache.dtype)
    # Any picture of one folder may be for training, with one seed or another: all get all views.
    reading = FirstReading(
        frozen,
        source,
        cache,
        seed=None,
        shard=shard,
        extraction=extraction and extraction(frozen, cache, source),
    )
    pictures = read_pictures(
        source,
        memo=cache.memo,
        seed=None,
        on_error=cache.on_error,
        progress=progress,
        reader=reading,
    )
    if shard is not None:
        pictures = pictures.part(*shard)
    found, _, use = prepare(pictures, frozen, cache, progress, reading)
    found.cache.close()
    return use


def kept_digests(path: Path, progress: Progress, *, memo: Path | None = None) -> set[bytes]:
    """Return the digests under which the pictures of a data set, and their views, are cached.

    Args:
        memo: file that remembers digests of unchanged files, or none.

    Raises:
        DataError: the data set cannot be used, or a picture of it cannot be read.
    """
    pictures = read_pictures(
        Source(data=path), memo=memo, seed=None, on_error="fail", progress=progress
    )
    return {begin for digest in pictures.digests.values() for begin in key_digests(digest)}


def _fill(
    cache: BottleneckCache,
    wanted: "_Wanted",
    base: AnyBase,
    options: CacheOptions,
    progress: Progress,
    chosen: ChosenEngine | None,
) -> tuple[NDArray[Any], CacheUse]:
    """Return the row of each bottleneck that is wanted, -1 where its picture was skipped."""
    keys = wanted.keys()
    rows = cache.find(keys)
    if not len(rows):
        return rows, CacheUse()
    hits = int((rows >= 0).sum())
    chosen = chosen or choose_engine(options.engine, base, few=hits == len(rows))
    _self_check(cache, rows, wanted, chosen.engine, base, options.memo)
    missing = np.flatnonzero(rows < 0)
    skipped: Sequence[Skipped] = ()
    if len(missing):
        progress.note(f"engine {chosen.engine.name}: {chosen.reason}")
        progress.start("extracting", len(rows), unit="image", done=hits)
        try:
            skipped = extract(
                wanted.pictures(missing.tolist()),
                cache,
                chosen.engine,
                base.preprocessing.geometry,
                batch_size=options.batch_size,
                stop_on_error=options.on_error == "fail",
                progress=progress.advance,
            )
        finally:
            progress.finish()
        if skipped:
            # Some may have changed since; whatever is wrong with them, the next run looks anew.
            with FileDigests(options.memo) as digests:
                digests.forget([picture.path for picture in skipped])
        rows = cache.find(keys)
    extracted = int((rows >= 0).sum()) - hits
    return rows, CacheUse(
        hits=hits, extracted=extracted, skipped=skipped, engine=chosen.engine.name
    )


def _with_copies(skipped: Iterable[Skipped], pictures: Pictures) -> list[Skipped]:
    """Add the other files with the content of a skipped one: they were decoded only once."""
    first = {pictures.digests[picture.path]: picture for picture in skipped}
    found: dict[Path, Skipped] = {}
    for path in (*pictures.train.paths, *pictures.val.paths):
        original = first.get(pictures.digests[path])
        if original is not None and path == original.path:
            found[path] = original
        elif original is not None:
            found[path] = Skipped(path, f"{path}: is a copy of {original.path}, which was skipped")
    return list(found.values())


class _Wanted:
    """The different bottlenecks that some data sets need: one per content and view."""

    def __init__(self) -> None:
        self._index: dict[tuple[bytes, int], int] = {}
        self._paths: list[Path] = []

    def add(self, dataset: Dataset, digests: Mapping[Path, bytes], views: int) -> NDArray[Any]:
        """Return for each picture and view the index of its key, (pictures, views)."""
        indices = np.empty((len(dataset), views), np.int64)
        for i, path in enumerate(dataset.paths):
            for view in range(views):
                index = self._index.setdefault((digests[path], view), len(self._paths))
                if index == len(self._paths):
                    self._paths.append(path)
                indices[i, view] = index
        return indices

    def keys(self) -> NDArray[Any]:
        """Return the cache keys, in the order of their indices."""
        return make_keys(self._index)

    def path(self, index: int) -> Path:
        """Return the file of the bottleneck at an index."""
        return self._paths[index]

    def pictures(self, indices: Iterable[int]) -> Iterator[Picture]:
        """Yield the files to decode for the bottlenecks at these indices, in ascending order."""
        entries = list(self._index)
        # The views of a picture have neighbouring indices.
        for digest, group in groupby(indices, key=lambda index: entries[index][0]):
            own = list(group)
            yield Picture(self._paths[own[0]], digest, [entries[index][1] for index in own])


def _self_check(
    cache: BottleneckCache,
    rows: NDArray[Any],
    wanted: _Wanted,
    engine: Engine,
    base: AnyBase,
    memo: Path,
) -> None:
    """Extract a few entries again, so that nobody trains on a cache that was filled wrongly.

    Raises:
        CacheError: an entry differs; or a picture has another content than the memo says, which is
            emptied then.
    """
    there = [
        index
        for index in np.flatnonzero(rows >= 0).tolist()
        # What is far away is not read again for a check.
        if not isinstance(wanted.path(index), RemotePath)
    ]
    indices = random.sample(there, min(_CHECKED, len(there)))
    for index in indices:
        (picture,) = wanted.pictures([index])
        try:
            digest = digest_file(picture.path)
        except OSError:
            continue  # gone or locked since it was listed, which says nothing about the cache
        if digest != picture.digest:
            with FileDigests(memo) as digests:
                digests.forget()
            raise CacheError(
                f"{picture.path}: has another content than {memo} remembered, which has been "
                "emptied; run again"
            )
        row = rows[index : index + 1]
        stored = cache.read(row)
        try:
            fresh = bottlenecks_of(picture, engine, base.preprocessing.geometry)
        except ImageError:
            continue  # likewise
        scale = float(np.abs(fresh).max()) or 1.0
        difference = float(np.abs(stored - fresh).max()) / scale
        if not difference <= _CHECK_TOLERANCE:
            raise CacheError(
                f"{cache.shard_of(int(row[0]))}: the bottleneck of {picture.path} differs from a "
                f"fresh one by {difference:.1%}; delete this shard, or give another "
                "--bottleneck-dir, and run again"
            )


def _whole_batches(size: int, shape: Sequence[int], batch_size: int) -> int:
    """Return how many bottlenecks of whole batches have about this size in bytes."""
    return batch_size * max(1, size // (4 * math.prod(shape) * batch_size))


def _block_order(random: np.random.Generator, count: int, part: int) -> NDArray[Any]:
    """Return an order of pictures, (count,), in which each `part` comes from few places."""
    blocks = [
        np.arange(start, min(start + _BLOCK_SHUFFLED, count))
        for start in range(0, count, _BLOCK_SHUFFLED)
    ]
    order = np.concatenate([blocks[number] for number in random.permutation(len(blocks))])
    for start in range(0, count, part):
        random.shuffle(order[start : start + part])
    return order


def _memory_bytes() -> int:
    """Return the memory of this machine, or what a container may use of it."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # as on Windows
        return 8 << 30
    try:
        return min(memory, int(_MEMORY_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # there is none
        return memory


def _found(cache: BottleneckCache, dataset: Dataset, rows: NDArray[Any]) -> Bottlenecks:
    """Keep the pictures all of whose views are in the cache."""
    kept = np.flatnonzero((rows >= 0).all(axis=1))
    return Bottlenecks(cache, dataset.subset(kept.tolist()), rows[kept])
