"""A bounded queue of pictures, and the threads that work on it."""

import asyncio
import math
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from ..errors import ImageError
from ..images import Pixels8, decode_image
from .models import HeadAnswers, Models

_MOST_SECONDS_TO_WAIT = 60


class FullError(Exception):
    """The queue has no room for these pictures; `retry_after` says in how many seconds to ask."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many pictures wait already; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to classify: the bytes of a file, or uint8 RGB pixels of shape (h, w, 3)."""

    content: bytes | Pixels8
    name: str = "image"


class Workers:
    """Threads that decode and classify.

    On the CPU each thread computes what it has decoded, alone with one thread of ONNX Runtime,
    which gives the most answers a second and the very numbers of `Classifier.predict`. With a
    batch size above 1 they decode only, and one more thread computes whatever is ready at once.

    Args:
        models: classify.
        threads: work at the same time.
        max_queue: pictures that wait at most.
        max_pixels: of a picture.
        batch_size: the most pictures computed at once.
    """

    def __init__(
        self, models: Models, *, threads: int, max_queue: int, max_pixels: int, batch_size: int = 1
    ) -> None:
        self.threads = threads
        self.max_queue = max_queue
        self._models = models
        self._max_pixels = max_pixels
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fic-serve")
        self._batches = _Batches(models, batch_size) if batch_size > 1 else None
        self._in_flight = 0
        self._counting = threading.Lock()
        self._seconds = 0.0  # for one picture, a moving average

    @property
    def waiting(self) -> int:
        """How many pictures wait for a thread."""
        return max(0, self._in_flight - self.threads)

    @property
    def working(self) -> int:
        """How many pictures are worked on."""
        return min(self._in_flight, self.threads)

    async def answer(self, pictures: Sequence[Picture]) -> list[HeadAnswers]:
        """Classify pictures that have come in whole; all are taken, or none.

        Pictures that wait are dropped when the caller is cancelled.

        Raises:
            FullError: the queue has too little room for them.
            ImageError: one cannot be classified.
        """
        with self._counting:
            if self._in_flight + len(pictures) > self.max_queue + self.threads:
                raise FullError(self._seconds_until_room())
            self._in_flight += len(pictures)
        futures = [self._submit(picture) for picture in pictures]
        try:
            return [await asyncio.wrap_future(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(cancel_futures=True)
        if self._batches is not None:
            self._batches.close()

    def _submit(self, picture: Picture) -> "Future[HeadAnswers]":
        if self._batches is None:
            future = self._pool.submit(self._classify, picture)
        else:
            future = self._batches.expect(self._pool.submit(self._decode, picture))
        future.add_done_callback(self._one_less)
        return future

    def _classify(self, picture: Picture) -> HeadAnswers:
        started = time.perf_counter()
        answer = self._models.predict(self._decode(picture))
        self._seconds += 0.05 * (time.perf_counter() - started - self._seconds)
        return answer

    def _decode(self, picture: Picture) -> Pixels8:
        if not isinstance(picture.content, bytes):
            return picture.content
        return decode_image(
            picture.content,
            name=picture.name,
            geometry=self._models.geometry,
            max_pixels=self._max_pixels,
        )

    def _one_less(self, _: "Future[HeadAnswers]") -> None:
        with self._counting:
            self._in_flight -= 1

    def _seconds_until_room(self) -> int:
        seconds = math.ceil(self._in_flight * self._seconds / self.threads)
        return min(max(seconds, 1), _MOST_SECONDS_TO_WAIT)


class _Batches:
    """One thread that computes all that is decoded, up to a batch at once."""

    def __init__(self, models: Models, size: int) -> None:
        self._models = models
        self._size = size
        self._ready: queue.SimpleQueue[tuple[Pixels8, Future[HeadAnswers]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._compute, name="fic-serve-batches")
        self._thread.start()

    def expect(self, decoded: "Future[Pixels8]") -> "Future[HeadAnswers]":
        """Return the answer to come for a picture that is being decoded."""
        answer: Future[HeadAnswers] = Future()
        # Who no longer wants the answer need not have the picture decoded.
        answer.add_done_callback(lambda done: decoded.cancel() if done.cancelled() else None)
        decoded.add_done_callback(lambda done: self._take(done, answer))
        return answer

    def close(self) -> None:
        self._ready.put(None)
        self._thread.join()

    def _take(self, decoded: "Future[Pixels8]", answer: "Future[HeadAnswers]") -> None:
        if decoded.cancelled():
            answer.cancel()
        elif (error := decoded.exception()) is not None:
            with suppress(InvalidStateError):  # cancelled meanwhile
                answer.set_exception(error)
        else:
            self._ready.put((decoded.result(), answer))

    def _compute(self) -> None:
        while (first := self._ready.get()) is not None:
            taken = [first]
            while len(taken) < self._size:
                try:
                    more = self._ready.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._ready.put(None)
                    break
                taken.append(more)
            wanted = [pair for pair in taken if pair[1].set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _answer(self, wanted: "list[tuple[Pixels8, Future[HeadAnswers]]]") -> None:
        try:
            answers = self._models.predict_batch([pixels for pixels, _ in wanted])
        except ImageError as error:
            if len(wanted) == 1:
                wanted[0][1].set_exception(error)
            else:  # of one picture alone; the others are not to go without
                for pair in wanted:
                    self._answer([pair])
            return
        except BaseException as error:  # handed over to those who wait
            for _, future in wanted:
                future.set_exception(error)
            return
        for (_, future), answer in zip(wanted, answers, strict=True):
            future.set_result(answer)
