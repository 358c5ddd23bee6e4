"""Pictures to bottlenecks, at the speed of the machine: decode, resize, base, cache.

Every worker thread takes the next few pictures, decodes and resizes them straight into a batch,
and runs the base on it. OpenCV, ONNX Runtime and TensorFlow release Python's lock, so decoding in
one worker overlaps the base in another without a stage that waits for another stage. Queues are
bounded: memory depends on the batch and the number of workers, not on the number of pictures.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.devices import usable_cpus
from fic_runtime.errors import ImageError
from fic_runtime.heads.head import are_finite
from fic_runtime.images import decode_image, decoding
from fic_runtime.images.loading import read_file
from fic_runtime.preprocessing import Geometry

from ..cache import BottleneckCache
from ..cache.keys import make_keys
from ..data.dataset import Skipped
from ..digests import digest_bytes
from .engines import Engine
from .views import draw_view
from .worker_threads import in_parallel

_LARGE = 1 << 20  # pixels of an input; at most 16 of that size go through a base together


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, the digest of its content, and the views whose bottlenecks are wanted."""

    path: Path
    digest: bytes
    views: list[int]


@dataclass(frozen=True)
class Batch:
    """The rows of a few pictures, one for each view that could be read.

    Attributes:
        rows: bottlenecks, or uint8 pixels where no base was asked for.
        entries: content digest and view of each row.
        paths: the file of each row.
        skipped: the pictures that could not be read.
        lost: how many rows the skipped pictures would have had.
    """

    rows: NDArray[Any]
    entries: list[tuple[bytes, int]]
    paths: list[Path]
    skipped: list[Skipped]
    lost: int


def extract(
    pictures: Iterable[Picture],
    cache: BottleneckCache,
    engine: Engine,
    geometry: Geometry,
    *,
    batch_size: int,
    stop_on_error: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Skipped]:
    """Fill the cache with the bottlenecks of `pictures` and return those that were skipped.

    What was committed before an error or Ctrl-C stays in the cache.

    Args:
        batch_size: pictures in one pass through the base, at least 1.
        stop_on_error: raise for the first picture that cannot be read instead of skipping it.
        progress: called with the number of bottlenecks just made and of those just given up.

    Raises:
        ImageError: a picture cannot be read, and `stop_on_error` is set.
        CacheError: the cache cannot be written.
    """
    skipped: list[Skipped] = []
    # Closed here, or the workers would live on for as long as somebody keeps the error.
    batches = closing(bottleneck_batches(pictures, engine, geometry, batch_size=batch_size))
    with cache.writer() as writer, batches as results:
        for batch in results:
            if batch.skipped and stop_on_error:
                raise ImageError(batch.skipped[0].reason)
            if batch.entries:
                writer.add(make_keys(batch.entries), batch.rows)
            skipped += batch.skipped
            if progress is not None:
                progress(len(batch.entries), batch.lost)
    return sorted(skipped, key=lambda picture: picture.path)


def bottlenecks_of(picture: Picture, engine: Engine, geometry: Geometry) -> NDArray[Any]:
    """Return the bottlenecks of one picture, past the cache: float32 (views, *shape).

    Raises:
        ImageError: the picture cannot be read.
    """
    batch = _decode([picture], geometry)
    if batch.skipped:
        raise ImageError(batch.skipped[0].reason)
    return engine.run(batch.rows)


def bottleneck_batches(
    pictures: Iterable[Picture],
    engine: Engine,
    geometry: Geometry,
    *,
    batch_size: int,
    in_order: bool = False,
) -> Generator[Batch, None, None]:
    """Yield batches of bottlenecks; close the generator to end its threads.

    Args:
        in_order: yield the batches in the order of the pictures, not as each is done.
    """
    passes = threading.Semaphore(engine.passes)

    def work(chunk: Sequence[Picture]) -> Batch:
        batch = _decode(chunk, geometry)
        if not batch.entries:
            return batch
        with passes:
            return _with_bottlenecks(batch, engine.run(batch.rows))

    # Where the base takes one batch at a time, every processor can decode ahead of it.
    workers = engine.passes if engine.passes > 1 else usable_cpus() + 1
    chunks = _chunks(pictures, _at_once(batch_size, geometry))
    batches = in_parallel(chunks, work, workers=workers, in_order=in_order)
    with one_opencv_thread(), closing(batches):
        yield from batches


def _with_bottlenecks(batch: Batch, rows: NDArray[Any]) -> Batch:
    """Return a batch whose pixels went through the base, without those of which nothing came."""
    finite = are_finite(rows)
    if finite.all():
        return replace(batch, rows=rows)
    kept = np.flatnonzero(finite).tolist()
    lost = dict.fromkeys(batch.paths[i] for i in np.flatnonzero(~finite).tolist())
    return Batch(
        rows=rows[finite],
        entries=[batch.entries[i] for i in kept],
        paths=[batch.paths[i] for i in kept],
        skipped=[*batch.skipped, *(Skipped(path, no_numbers(path)) for path in lost)],
        lost=batch.lost + len(rows) - len(kept),
    )


def no_numbers(path: Path) -> str:
    """Return why a picture is skipped whose bottleneck is infinite, or no number."""
    return (
        f"{path}: the base gives no finite values for it; leave it out, or, if that is so for "
        "others, give other weights"
    )


def pixel_batches(
    pictures: Iterable[Picture], geometry: Geometry, *, batch_size: int
) -> Generator[Batch, None, None]:
    """Yield batches of decoded and resized pictures, in their order.

    Close the generator to end its threads.
    """
    chunks = _chunks(pictures, _at_once(batch_size, geometry))
    batches = in_parallel(
        chunks, lambda chunk: _decode(chunk, geometry), workers=usable_cpus(), in_order=True
    )
    with one_opencv_thread(), closing(batches):
        yield from batches


def _at_once(batch_size: int, geometry: Geometry) -> int:
    """Return how many pictures to take together: fewer where they are very large."""
    pixels = geometry.width * geometry.height
    return batch_size if pixels <= _LARGE else max(1, min(batch_size, 16 * _LARGE // pixels))


def _chunks(pictures: Iterable[Picture], batch_size: int) -> Iterator[list[Picture]]:
    """Group pictures so that each group has at most `batch_size` views, or a single picture."""
    chunk: list[Picture] = []
    size = 0
    for picture in pictures:
        if chunk and size + len(picture.views) > batch_size:
            yield chunk
            chunk, size = [], 0
        chunk.append(picture)
        size += len(picture.views)
    if chunk:
        yield chunk


def _decode(chunk: Sequence[Picture], geometry: Geometry) -> Batch:
    size = sum(len(picture.views) for picture in chunk)
    pixels = np.empty((size, geometry.height, geometry.width, 3), np.uint8)
    entries: list[tuple[bytes, int]] = []
    paths: list[Path] = []
    skipped: list[Skipped] = []
    for picture in chunk:
        with decoding():  # until it is drawn: large pictures take turns in all threads
            try:
                decoded = _read(picture, geometry)
            except ImageError as error:
                skipped.append(Skipped(picture.path, str(error)))
                continue
            for view in picture.views:
                draw_view(decoded, picture.digest, view, geometry, out=pixels[len(entries)])
                entries.append((picture.digest, view))
                paths.append(picture.path)
            del decoded
    return Batch(pixels[: len(entries)], entries, paths, skipped, size - len(entries))


def _read(picture: Picture, geometry: Geometry) -> NDArray[Any]:
    data = read_file(picture.path)
    # Bottlenecks go into the cache under the digest: never under that of another content.
    if digest_bytes(data) != picture.digest:
        raise ImageError(
            f"{picture.path}: has another content than when it was looked up; run again to use it"
        )
    return decode_image(data, name=str(picture.path), geometry=geometry)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread meanwhile."""
    # The workers already use every processor; OpenCV's own threads would only take turns.
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
