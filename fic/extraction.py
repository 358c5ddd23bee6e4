"""Pictures to bottlenecks, at the speed of the machine: decode, resize, base, cache.

Every worker thread takes the next few pictures, decodes and resizes them straight into a batch,
and runs the base on it. OpenCV, ONNX Runtime and TensorFlow release Python's lock, so decoding in
one worker overlaps the base in another without a stage that waits for another stage. Queues are
bounded: memory depends on the batch and the number of workers, not on the number of pictures.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fic_runtime.devices import usable_cpus
from fic_runtime.errors import ImageError
from fic_runtime.images import read_image
from fic_runtime.preprocessing import Geometry

from .augmentation import draw_view, view_keys
from .cache import BottleneckCache
from .engines import Engine

Progress = Callable[[int, int], None]
"""Called with how many bottlenecks were just made, and how many will not be."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, the digest of its content, and the views whose bottlenecks are wanted."""

    path: Path
    digest: bytes
    views: list[int]


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out, and why, in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Batch:
    entries: list[tuple[bytes, int]]  # content digest and view of each row
    bottlenecks: np.ndarray[Any, Any]
    skipped: list[Skipped]
    lost: int  # bottlenecks that the skipped pictures would have had


def extract(
    pictures: Iterable[Picture],
    cache: BottleneckCache,
    engine: Engine,
    geometry: Geometry,
    *,
    batch_size: int,
    stop_on_error: bool = False,
    progress: Progress | None = None,
) -> list[Skipped]:
    """Fill the cache with the bottlenecks of `pictures` and return those that were skipped.

    What was committed before an error or Ctrl-C stays in the cache.

    Args:
        batch_size: pictures in one pass through the base, at least 1.
        stop_on_error: raise for the first picture that cannot be read instead of skipping it.

    Raises:
        ImageError: a picture cannot be read, and `stop_on_error` is set.
        CacheError: the cache cannot be written.
    """
    skipped: list[Skipped] = []
    # Closed here, or the workers would live on for as long as somebody keeps the error.
    batches = closing(_run_workers(pictures, engine, geometry, batch_size))
    with cache.writer() as writer, batches as results:
        for batch in results:
            if batch.skipped and stop_on_error:
                raise ImageError(batch.skipped[0].reason)
            if batch.entries:
                writer.add(view_keys(batch.entries), batch.bottlenecks)
            skipped += batch.skipped
            if progress is not None:
                progress(len(batch.entries), batch.lost)
    return sorted(skipped, key=lambda each: each.path)


def bottlenecks_of(picture: Picture, engine: Engine, geometry: Geometry) -> np.ndarray[Any, Any]:
    """Return the bottlenecks of one picture, past the cache: float32 (views, *shape).

    Raises:
        ImageError: the picture cannot be read.
    """
    batch = _make_batch([picture], engine, geometry, threading.Semaphore())
    if batch.skipped:
        raise ImageError(batch.skipped[0].reason)
    return batch.bottlenecks


def _run_workers(
    pictures: Iterable[Picture], engine: Engine, geometry: Geometry, batch_size: int
) -> Generator[_Batch, None, None]:
    # Where the base takes one batch at a time, every processor can decode ahead of it.
    workers = engine.passes if engine.passes > 1 else usable_cpus() + 1
    todo = _chunks(pictures, batch_size)
    done: queue.Queue[_Batch | BaseException | None] = queue.Queue(maxsize=2 * workers)
    stop = threading.Event()
    turn = threading.Lock()
    passes = threading.Semaphore(engine.passes)

    def work() -> None:
        try:
            while not stop.is_set():
                with turn:
                    chunk = next(todo, None)
                if chunk is None:
                    break
                _put(done, _make_batch(chunk, engine, geometry, passes), stop)
            _put(done, None, stop)
        except BaseException as error:  # handed over to the thread that waits for results
            _put(done, error, stop)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    with _one_opencv_thread():
        for thread in threads:
            thread.start()
        try:
            running = workers
            while running:
                result = done.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    yield result
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _put(done: "queue.Queue[Any]", item: object, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            return done.put(item, timeout=0.2)
        except queue.Full:
            continue


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


def _make_batch(
    chunk: Sequence[Picture], engine: Engine, geometry: Geometry, passes: threading.Semaphore
) -> _Batch:
    size = sum(len(picture.views) for picture in chunk)
    pixels = np.empty((size, geometry.height, geometry.width, 3), np.uint8)
    entries: list[tuple[bytes, int]] = []
    skipped: list[Skipped] = []
    for picture in chunk:
        try:
            decoded = read_image(picture.path, geometry=geometry)
        except ImageError as error:
            skipped.append(Skipped(picture.path, str(error)))
            continue
        for view in picture.views:
            draw_view(decoded, picture.digest, view, geometry, out=pixels[len(entries)])
            entries.append((picture.digest, view))
    if not entries:
        return _Batch([], pixels[:0], skipped, size)
    with passes:
        bottlenecks = engine.run(pixels[: len(entries)])
    return _Batch(entries, bottlenecks, skipped, size - len(entries))


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    # The workers already use every processor; OpenCV's own threads would only take turns.
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
