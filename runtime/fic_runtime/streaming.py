"""Answers for a stream of pictures: worked on ahead of need, in order, in bounded memory.

One thread takes pictures from the source, a pool of workers decodes them, and the consumer gets the
answers in the order of the pictures. Whatever is ready is computed; nothing waits for a batch to
fill, so a slow source is answered at once.

`fic.bottlenecks.worker_threads` also works ahead, and is not the same: its source never waits, so
its workers take from it themselves and can be joined; it hands over results as they are done, out
of order where that may be; and its results are whole batches already. Here a source may be silent
for ever, and what is ready when it is asked for becomes the batch.
"""

import atexit
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .devices import usable_cpus
from .errors import ImageError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
OnError = Literal["raise", "yield"]
ComputeThreads = Literal["caller", "workers", "all"]
# How long, in seconds, the end of a stream waits for a source that has not yet given its next item.
_PATIENCE = 0.5


def stream_pictures(
    images: Iterable[Item],
    decode: Callable[[Item], NDArray[np.uint8]],
    compute: Callable[[NDArray[np.uint8]], Sequence[Answer | ImageError]],
    *,
    on_cpu: bool,
    batch_size: int | None,
    workers: int | None,
    on_error: OnError,
    interrupt: Callable[[], object],
) -> Generator[Answer | ImageError, None, None]:
    """Check the arguments of `Classifier.stream`, fill in its defaults, and start `answer_stream`.

    Raises:
        ValueError: `batch_size`, `workers` or `on_error` is none that there is.
    """
    one_at_a_time = on_cpu and batch_size in (None, 1)
    size = (1 if one_at_a_time else 32) if batch_size is None else batch_size
    threads = usable_cpus() if workers is None else workers
    for name, number in (("batch_size", size), ("workers", threads)):
        if number < 1:
            raise ValueError(f"{name} is at least 1; received {number}")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is 'raise' or 'yield'; received {on_error!r}")
    return answer_stream(
        images,
        decode,
        compute,
        batch_size=size,
        workers=threads,
        threads="workers" if one_at_a_time else "caller",
        on_error=on_error,
        interrupt=interrupt,
    )


def answer_all(
    images: Iterable[Item],
    decode: Callable[[Item], NDArray[np.uint8]],
    compute: Callable[[NDArray[np.uint8]], Sequence[Answer]],
    *,
    workers: int,
    interrupt: Callable[[], object],
) -> Generator[Answer, None, None]:
    """Yield one answer for each picture, in order, computed alone by one of several threads.

    What an iterator gives is decoded in the thread of the caller before the next is asked for: it
    may be gone then, or another picture in the same array.

    Args:
        images: the source.
        decode: from an item to pixels of shape (height, width, 3).
        compute: from a batch (1, height, width, 3) to one answer.
        workers: threads, that of the caller included where the source has a length.
        interrupt: ends what `compute` is at work on, at Ctrl-C.

    Raises:
        ImageError: one is not a picture; the message says which.
    """
    if not isinstance(images, Sized):
        return _answer_iterator(images, decode, compute, workers=workers, interrupt=interrupt)
    answers = answer_stream(
        images,
        decode,
        compute,
        batch_size=1,
        workers=workers,
        threads="all",
        on_error="raise",
        interrupt=interrupt,
    )
    return cast("Generator[Answer, None, None]", answers)  # errors are raised


def answer_stream(
    items: Iterable[Item],
    decode: Callable[[Item], NDArray[np.uint8]],
    compute: Callable[[NDArray[np.uint8]], Sequence[Answer | ImageError]],
    *,
    batch_size: int,
    workers: int,
    threads: ComputeThreads,
    on_error: OnError,
    interrupt: Callable[[], object] = lambda: None,
) -> Generator[Answer | ImageError, None, None]:
    """Yield one answer for each item, in order.

    At most `2 * batch_size + 2 * workers` items are taken from the source before their answers are
    asked for. An error of the source is raised after the answers to what it gave before. Close the
    generator to end the threads; one that waits in the source ends when that gives its next item.

    Args:
        items: the source; it is iterated in a thread of its own, or by the workers in turn where it
            has a length and they compute.
        decode: from an item to pixels of shape (height, width, 3).
        compute: from a batch (n, height, width, 3) to n answers, or errors in their places.
        batch_size: the most that `compute` gets at once; less where no more is decoded yet.
        workers: threads that decode.
        threads: where `compute` runs: in each worker, on what it has decoded, a batch of one; in
            that of the caller alone; or in all of them, where the source has a length.
        on_error: raise the ImageError of an item, or yield it in the item's place.
        interrupt: ends what `compute` is at work on, at Ctrl-C.
    """

    # Any: an answer where the workers compute, pixels where they do not, or an ImageError.
    def work(item: Item) -> Any:
        try:
            pixels = decode(item)
        except ImageError as error:
            return error
        return pixels if threads == "caller" else compute(pixels[None])[0]

    bound = 2 * batch_size + 2 * workers
    number = 0
    ahead: _Present[Item, Any] | _Ahead[Item, Any]
    if threads != "caller" and isinstance(items, Sized):
        caller_works = threads == "all"
        ahead = _Present(items, work, workers=workers, bound=bound, caller_works=caller_works)
    else:
        ahead = _Ahead(items, work, workers=workers, bound=bound)
    with closing(ahead):
        try:
            while results := ahead.take(batch_size):
                for answer in _computed(results, compute) if threads == "caller" else results:
                    if isinstance(answer, ImageError) and on_error == "raise":
                        raise ImageError(f"picture {number}: {answer}") from answer
                    yield answer
                    ahead.allow_one_more()
                    number += 1
        except KeyboardInterrupt:  # before the workers are waited for
            interrupt()
            raise


def _computed(
    results: list[Any], compute: Callable[[NDArray[np.uint8]], Sequence[Answer | ImageError]]
) -> list[Answer | ImageError]:
    batch = [result for result in results if not isinstance(result, ImageError)]
    answers = iter(compute(np.stack(batch)) if batch else ())
    return [result if isinstance(result, ImageError) else next(answers) for result in results]


def _answer_iterator(
    items: Iterable[Item],
    decode: Callable[[Item], NDArray[np.uint8]],
    compute: Callable[[NDArray[np.uint8]], Sequence[Answer]],
    *,
    workers: int,
    interrupt: Callable[[], object],
) -> Generator[Answer, None, None]:
    due: deque[Future[Sequence[Answer]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fic-batch")
    try:
        for number, item in enumerate(items):
            try:
                pixels = decode(item)
            except ImageError as error:
                raise ImageError(f"picture {number}: {error}") from error
            due.append(pool.submit(compute, pixels[None]))
            if len(due) > 2 * workers:
                yield due.popleft().result()[0]
        while due:
            yield due.popleft().result()[0]
    except KeyboardInterrupt:  # before the workers are waited for
        interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Present(Generic[Item, Result]):
    """The results of items that are all there, worked out by threads that take them in turn.

    No thread hands an item to another, which costs as much as a small base; only who asks for the
    results is woken when there is one.

    Args:
        bound: the most items that are taken, until `allow_one_more` is called.
        caller_works: the thread that asks for results is one of the workers.
    """

    def __init__(
        self,
        items: Iterable[Item],
        work: Callable[[Item], Result],
        *,
        workers: int,
        bound: int,
        caller_works: bool,
    ) -> None:
        self._items = iter(items)
        self._work = work
        self._allowed = threading.Semaphore(bound)
        self._turn = threading.Lock()
        self._taken = self._due = 0
        self._ended = False  # nothing more is taken
        self._done: dict[int, tuple[Any, BaseException | None]] = {}  # a result, or an error
        self._one_done = threading.Event()
        self._caller_works = caller_works
        # Daemons: a program may end before its stream does. What is computed then is waited for.
        self._process = os.getpid()
        atexit.register(self.close)
        self._threads: list[threading.Thread] = []  # those that were started
        for _ in range(workers - caller_works):
            thread = threading.Thread(target=self._run, name="fic-stream", daemon=True)
            thread.start()
            self._threads.append(thread)

    def take(self, limit: int) -> list[Result]:
        """Return the next result alone, whatever the limit; none when there are no more items.

        An error of the source or of the work is raised when it is due.
        """
        while self._due not in self._done:
            if self._caller_works and self._allowed.acquire(blocking=False):
                if self._one_more(by_caller=True):
                    continue
                self._allowed.release()
            self._one_done.clear()
            if self._due in self._done:
                break
            if self._ended and self._due == self._taken:
                return []
            # With a timeout, or Ctrl-C would not be noticed on Windows.
            self._one_done.wait(0.2)
        result, error = self._done.pop(self._due)
        self._due += 1
        if error is not None:
            raise error
        return [result]

    def allow_one_more(self) -> None:
        """Let one more item be taken from the source."""
        self._allowed.release()

    def close(self) -> None:
        """End the threads; what is not begun is not done."""
        atexit.unregister(self.close)
        if self._process != os.getpid():  # they are not in a process that was forked
            return
        self._ended = True
        self._allowed.release(len(self._threads) or 1)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while self._allowed.acquire() and self._one_more():
            pass
        self._allowed.release()  # for the next one, which ends as well

    def _one_more(self, *, by_caller: bool = False) -> bool:
        """Take an item and work on it; return False where there is none."""
        with self._turn:
            if self._ended:
                return False
            number = self._taken
            try:
                item = next(self._items)
            except StopIteration:
                self._ended = True
                self._one_done.set()
                return False
            except BaseException as error:  # raised where it is due
                self._taken += 1
                self._ended = True
                self._finish(number, None, error)
                return False
            self._taken += 1
        try:
            self._finish(number, self._work(item), None)
        except BaseException as error:  # as above
            if by_caller and isinstance(error, KeyboardInterrupt):
                raise
            self._finish(number, None, error)
        return True

    def _finish(self, number: int, result: Any, error: BaseException | None) -> None:
        self._done[number] = (result, error)
        self._one_done.set()


class _Exhausted(Exception):
    """The source has no more items."""


class _Ahead(Generic[Item, Result]):
    """The results of items, worked out by threads before they are asked for.

    Args:
        bound: the most items that are taken, until `allow_one_more` is called.
    """

    def __init__(
        self, items: Iterable[Item], work: Callable[[Item], Result], *, workers: int, bound: int
    ) -> None:
        self._items = iter(items)
        self._work = work
        self._due: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        self._first: Future[Result] | None = None  # of what is due, if it was not ready
        self._allowed = threading.Semaphore(bound)
        self._turn = threading.Lock()
        self._closed = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fic-stream")
        # A daemon: whoever ends the program shall not wait for a source that is silent.
        self._feeder = threading.Thread(target=self._feed, name="fic-stream-source", daemon=True)
        self._feeder.start()

    def take(self, limit: int) -> list[Result]:
        """Return the next results: one at least, and those after it that are ready, up to `limit`.

        There are none when the source is exhausted. An error of the source or of the work is raised
        when it is due.
        """
        results: list[Result] = []
        while len(results) < limit:
            future = self._next(wait=not results)
            if future is None:
                break
            if results and not (future.done() and future.exception() is None):
                self._first = future
                break
            try:
                results.append(future.result())
            except _Exhausted:
                break
        return results

    def allow_one_more(self) -> None:
        """Let one more item be taken from the source."""
        self._allowed.release()

    def close(self) -> None:
        """End the threads; what is not begun is not done."""
        with self._turn:
            self._closed = True
        self._allowed.release()
        self._pool.shutdown(cancel_futures=True)
        self._feeder.join(_PATIENCE)

    def _next(self, *, wait: bool) -> Future[Result] | None:
        if self._first is not None:
            future, self._first = self._first, None
            return future
        while True:
            try:
                # With a timeout, or Ctrl-C would not be noticed on Windows.
                return self._due.get(wait, 0.2)
            except queue.Empty:
                if not wait:
                    return None

    def _feed(self) -> None:
        try:
            while True:
                self._allowed.acquire()
                if self._closed:
                    return
                item = next(self._items)
                with self._turn:
                    if self._closed:
                        return
                    future = self._pool.submit(self._work, item)
                self._due.put(future)
        except StopIteration:
            self._end(_Exhausted())
        except BaseException as error:  # handed over to the thread that waits for answers
            self._end(error)

    def _end(self, error: BaseException) -> None:
        last: Future[Result] = Future()
        last.set_exception(error)
        self._due.put(last)
