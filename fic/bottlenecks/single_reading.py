"""Digest, decode and base from one reading of each picture, for pictures that are dear to read.

Pictures on this machine's disks are read twice, once for the digest and once to be decoded, and
the second time comes from memory. Over a network each picture is fetched once: whatever its content
turns out to be, what the cache lacks of it is extracted from the bytes at hand. So this comes
before the split, which depends on the contents.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.heads.head import are_finite
from fic_runtime.images import decode_image
from fic_runtime.images.loading import read_file
from fic_runtime.preprocessing import Geometry

from ..bases.opening import AnyBase
from ..cache import CacheWriter
from ..cache.keys import Keys, make_keys
from ..cache.maintenance import remove_entries
from ..cache.remote import open_cache
from ..data import Dataset, Source
from ..data.dataset import Skipped
from ..data.file_memo import FileDigests, Identity
from ..data.remote import RemotePath
from ..data.source import read_digests
from ..data.splitting import is_validation
from ..digests import digest_bytes
from ..errors import DataError
from ..options import CacheOptions
from ..progress import Progress
from .engines import Engine, choose_engine
from .extraction import no_numbers, one_opencv_thread
from .views import draw_view
from .worker_threads import in_parallel

READERS = 32
"""Threads that fetch; a server's answer takes long and costs nothing."""

_LOOKED_UP = 1024  # pictures whose digests the memo is asked for at once


@dataclass(frozen=True, kw_only=True)
class ViewRule:
    """How many views of a content are wanted.

    Attributes:
        views: of a training picture; a validation picture has one.
        seed: of the split; None where all pictures are for training.
        fraction: share of the validation.
        shard: (i, n) wants the contents of the i-th of n parts only.
    """

    views: int = 1
    seed: int | None = None
    fraction: float = 0.0
    shard: tuple[int, int] | None = None

    def wanted(self, digest: bytes) -> int:
        """Return how many views of this content are wanted."""
        if self.shard is not None:
            part, parts = self.shard
            if int.from_bytes(digest, "big") % parts != part - 1:
                return 0
        if self.seed is not None and is_validation(digest, self.seed, self.fraction):
            return 1
        return self.views


class Unread(NamedTuple):
    """A picture to be read: its digest if that is known, and how many views are wanted of what."""

    path: Path
    digest: bytes | None
    rule: ViewRule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of some pictures.

    Attributes:
        digests: the content digest of each file that could be read.
        skipped: the files that could not be read or decoded.
        extracted: number of bottlenecks that were made.
        lost: number of bottlenecks that were given up.
    """

    digests: Mapping[Path, bytes] = field(default_factory=dict)
    skipped: Sequence[Skipped] = ()
    extracted: int = 0
    lost: int = 0


class Extraction(Protocol):
    """Whoever reads pictures and extracts what the cache lacks of them: this machine, or many."""

    engine: str
    """Name of the engine, once it is running."""

    def run(
        self, pictures: Sequence[Unread], total: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        """Yield what came of the pictures, some at a time; all is committed at the end.

        Args:
            pictures: what is to be done.
            total: how many pictures there are with those that are done already, for `progress`.
        """


MakeExtraction = Callable[[AnyBase, CacheOptions, Source], Extraction]
"""Makes an extraction of a base, given where its bottlenecks go and where the pictures are."""


class Cache(Protocol):
    """What `extracted` needs of a cache."""

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return -1 for each key whose bottleneck has to be extracted."""

    def writer(self) -> CacheWriter:
        """Return a writer."""


class FirstReading:
    """A reader for `read_pictures` that extracts on the way.

    Pictures on this machine's disks, extracted by this process, are read by `read_digests`.

    Args:
        base: the base.
        source: where the pictures are.
        options: of the cache.
        seed: of the split, as for `read_pictures`.
        shard: as for `fill_cache`.
        extraction: who does the work; by default this process.

    Attributes:
        extracted: number of bottlenecks that were made.
        seconds: how long it took.
        engine: name of the engine, None if none was needed.
        has_removed: whether the bottlenecks that were to be extracted again are gone already.
    """

    def __init__(
        self,
        base: AnyBase,
        source: Source,
        options: CacheOptions,
        *,
        seed: int | None,
        shard: tuple[int, int] | None = None,
        extraction: Extraction | None = None,
    ) -> None:
        self._base = base
        self._options = options
        self._is_shared = extraction is not None
        self._extraction = extraction or LocalExtraction(base, options)
        train = ViewRule(views=options.views, shard=shard)
        self._split = (train, replace(train, views=1))
        self._whole = replace(train, seed=seed, fraction=source.val_split)
        self.extracted = 0
        self.seconds = 0.0
        self.engine: str | None = None
        self.has_removed = False

    def __call__(
        self, datasets: Sequence[Dataset], memo: Path | None, progress: Progress
    ) -> tuple[dict[Path, bytes], list[Skipped]]:
        """Return the digest of each picture that is usable, and those that are left out."""
        remote = any(isinstance(path, RemotePath) for data in datasets for path in data.paths)
        if not (remote or self._is_shared):
            return read_digests(datasets, memo, progress)
        started = time.perf_counter()
        rules = self._split if len(datasets) == 2 else (self._whole,)
        wanted: dict[Path, ViewRule] = {}
        for dataset, rule in zip(datasets, rules, strict=True):
            for path in dataset.paths:
                wanted.setdefault(path, rule)
        digests: dict[Path, bytes] = {}
        skipped: list[Skipped] = []
        try:
            if self._options.recompute:
                # What is to be removed is known by its content, so that comes first.
                self._remove(*read_digests(datasets, memo, progress))
            with FileDigests(memo) as files:
                known, identities = self._looked_up(files, wanted, skipped)
                todo = self._missing(known, wanted, identities)
                digests.update(known)
                outcomes = self._outcomes(todo, len(wanted), progress)
                for outcome in closed(outcomes):
                    fresh = {
                        path: digest
                        for path, digest in outcome.digests.items()
                        if path in identities
                    }
                    files.remember(fresh, identities)
                    digests.update(fresh)
                    skipped += outcome.skipped
                    self.extracted += outcome.extracted
                    if outcome.skipped and self._options.on_error == "fail":
                        raise DataError(outcome.skipped[0].reason)
        finally:
            self.seconds = time.perf_counter() - started
        left_out = {picture.path for picture in skipped}
        usable = {
            path: digests[path] for path in wanted if path in digests and path not in left_out
        }
        return usable, sorted(skipped, key=lambda picture: str(picture.path))

    def _remove(self, digests: Mapping[Path, bytes], _: Sequence[Skipped]) -> None:
        views = range(self._whole.views)
        keys = make_keys((digest, view) for digest in set(digests.values()) for view in views)
        remove_entries(self._options.bottleneck_dir, self._base.fingerprint, keys)
        self.has_removed = True

    def _looked_up(
        self, files: FileDigests, wanted: Mapping[Path, ViewRule], skipped: list[Skipped]
    ) -> tuple[dict[Path, bytes], dict[Path, Identity]]:
        """Return digests that the memo knows, and what it will know the other files by."""
        known: dict[Path, bytes] = {}
        identities: dict[Path, Identity] = {}
        paths = iter(wanted)
        with ThreadPoolExecutor(READERS, thread_name_prefix="digest") as pool:
            while batch := list(islice(paths, _LOOKED_UP)):
                found = files.look_up(batch, pool)
                known.update(found.digests)
                identities.update(found.unread)
                skipped += [Skipped(path, reason) for path, reason in found.failures.items()]
        return known, identities

    def _missing(
        self,
        known: Mapping[Path, bytes],
        wanted: Mapping[Path, ViewRule],
        identities: Mapping[Path, Identity],
    ) -> list[Unread]:
        """Return the pictures that have to be read: unknown, or known and not in the cache."""
        todo = [Unread(path, None, wanted[path]) for path in identities]
        first: dict[tuple[bytes, int], Path] = {}
        for path, digest in known.items():
            for view in range(wanted[path].wanted(digest)):
                first.setdefault((digest, view), path)
        if not first:
            return todo
        with open_cache(self._options.bottleneck_dir, self._base.fingerprint) as cache:
            absent = cache.find(make_keys(first)) < 0
        paths = [path for path, gone in zip(first.values(), absent, strict=True) if gone]
        return todo + [Unread(path, known[path], wanted[path]) for path in dict.fromkeys(paths)]

    def _outcomes(
        self, todo: Sequence[Unread], total: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        if not todo:
            return
        yield from self._extraction.run(todo, total, progress)
        self.engine = self._extraction.engine


class LocalExtraction:
    """Extraction by this process."""

    def __init__(self, base: AnyBase, options: CacheOptions) -> None:
        self._base = base
        self._options = options
        self.engine = ""

    def run(
        self, pictures: Sequence[Unread], total: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        """Yield what came of the pictures, batch by batch; see `Extraction`."""
        options = self._options
        chosen = choose_engine(options.engine, self._base)
        self.engine = chosen.engine.name
        progress.note(f"engine {chosen.engine.name}: {chosen.reason}")
        folder, fingerprint = options.bottleneck_dir, self._base.fingerprint
        geometry = self._base.preprocessing.geometry
        progress.start("extracting", total, unit="image", done=total - len(pictures))
        try:
            with open_cache(folder, fingerprint, compression=options.compression) as cache:
                for outcome in extracted(
                    pictures, cache, chosen.engine, geometry, options.batch_size
                ):
                    left_out = {picture.path for picture in outcome.skipped}
                    done = sum(path not in left_out for path in outcome.digests)
                    progress.advance(done, len(left_out))
                    yield outcome
        finally:
            progress.finish()


def closed(outcomes: Generator[Outcome, None, None]) -> Generator[Outcome, None, None]:
    """Yield from a generator that is closed afterwards, whatever happens to the caller."""
    with closing(outcomes):
        yield from outcomes


def extracted(
    pictures: Iterable[Unread],
    cache: Cache,
    engine: Engine,
    geometry: Geometry,
    batch_size: int,
    passes: threading.Semaphore | None = None,
) -> Generator[Outcome, None, None]:
    """Read pictures, put what the cache lacks into it, and yield what came of each batch.

    Close the generator to end its threads; what was extracted by then is committed.

    Args:
        passes: for several calls at once, their common bound of `engine.passes`.
    """
    passes = passes or threading.Semaphore(engine.passes)
    fetching = ThreadPoolExecutor(READERS, thread_name_prefix="fetch")

    def work(chunk: Sequence[Unread]) -> _Extracted:
        read = _read(chunk, cache, geometry, fetching)
        if not read.entries:
            return read
        with passes:
            return _with_bottlenecks(read, engine.run(read.rows))

    # Two more than passes, so that the next pictures are fetched while the base runs.
    batches = in_parallel(_chunks(pictures, batch_size), work, workers=engine.passes + 2)
    with one_opencv_thread(), fetching, cache.writer() as writer, closing(batches) as results:
        for read in results:
            if read.entries:
                writer.add(make_keys(read.entries), read.rows)
            yield read.outcome


@dataclass(frozen=True)
class _Extracted:
    """Rows of a few pictures, pixels before and bottlenecks after the base, with their keys."""

    rows: NDArray[Any]
    entries: list[tuple[bytes, int]]
    outcome: Outcome


def _with_bottlenecks(read: _Extracted, rows: NDArray[Any]) -> _Extracted:
    """Return what was read after the base, without pictures for which it gives no numbers."""
    finite = are_finite(rows)
    if finite.all():
        return replace(read, rows=rows)
    outcome = read.outcome
    without = {read.entries[i][0] for i in np.flatnonzero(~finite).tolist()}
    lost = [Skipped(p, no_numbers(p)) for p, digest in outcome.digests.items() if digest in without]
    kept = [i for i, (digest, _) in enumerate(read.entries) if digest not in without]
    return _Extracted(
        rows[kept],
        [read.entries[i] for i in kept],
        replace(
            outcome,
            skipped=[*outcome.skipped, *lost],
            extracted=len(kept),
            lost=outcome.lost + len(rows) - len(kept),
        ),
    )


def _read(
    chunk: Sequence[Unread], cache: Cache, geometry: Geometry, fetching: ThreadPoolExecutor
) -> _Extracted:
    digests: dict[Path, bytes] = {}
    skipped: list[Skipped] = []
    contents: dict[bytes, tuple[Path, bytes, int]] = {}
    for picture, content in zip(chunk, fetching.map(_fetch, chunk), strict=True):
        if isinstance(content, str):
            skipped.append(Skipped(picture.path, content))
            continue
        # What was read now counts, should the file have changed since the memo knew it.
        digest = digest_bytes(content)
        digests[picture.path] = digest
        contents.setdefault(digest, (picture.path, content, picture.rule.wanted(digest)))
    entries = [
        (digest, view) for digest, (_, _, views) in contents.items() for view in range(views)
    ]
    absent = cache.find(make_keys(entries)) < 0
    entries = [entry for entry, gone in zip(entries, absent, strict=True) if gone]
    pixels = np.empty((len(entries), geometry.height, geometry.width, 3), np.uint8)
    drawn: list[tuple[bytes, int]] = []
    unreadable: dict[bytes, Skipped] = {}
    for digest, own in groupby(entries, key=lambda entry: entry[0]):
        path, content, _ = contents[digest]
        try:
            image = decode_image(content, name=str(path), geometry=geometry)
        except ImageError as error:
            unreadable[digest] = Skipped(path, str(error))
            continue
        for _, view in own:
            draw_view(image, digest, view, geometry, out=pixels[len(drawn)])
            drawn.append((digest, view))
    skipped += [
        _as_copy(path, unreadable[digest])
        for path, digest in digests.items()
        if digest in unreadable
    ]
    outcome = Outcome(
        digests=digests,
        skipped=skipped,
        extracted=len(drawn),
        lost=len(entries) - len(drawn),
    )
    return _Extracted(pixels[: len(drawn)], drawn, outcome)


def _as_copy(path: Path, skipped: Skipped) -> Skipped:
    if path == skipped.path:
        return skipped
    return Skipped(path, f"{path}: is a copy of {skipped.path}, which was skipped")


def _fetch(picture: Unread) -> bytes | str:
    path = picture.path
    try:
        return path.read_bytes() if isinstance(path, RemotePath) else read_file(path)
    except ImageError as error:  # of a local file
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error}); run again or leave it out"


def _chunks(pictures: Iterable[Unread], batch_size: int) -> Iterator[list[Unread]]:
    """Group pictures so that each group has at most `batch_size` views, or a single picture."""
    chunk: list[Unread] = []
    size = 0
    for picture in pictures:
        if chunk and size + picture.rule.views > batch_size:
            yield chunk
            chunk, size = [], 0
        chunk.append(picture)
        size += picture.rule.views
    if chunk:
        yield chunk
