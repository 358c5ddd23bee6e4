"""A bounded queue of pictures, and the threads that work on it."""

import asyncio
import atexit
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
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


@dataclass(eq=False, slots=True)
class _Job:
    """One picture in the queue, and the future of its answer, which belongs to an event loop.

    Attributes:
        picture: None once a thread has taken it, or nobody waits for it any more. A job that is
            dropped stays in the queue until its turn comes, and would hold a whole file there.
    """

    picture: Picture | None
    future: "asyncio.Future[HeadAnswers]"

    def deliver(self, answer: HeadAnswers | BaseException) -> None:
        """Give the answer, or the error instead, to who waits for it; called in any thread."""
        self._call(self._set, answer)

    def cancel(self) -> None:
        """Tell who waits for it that there will be no answer; called in any thread."""
        self._call(self.future.cancel)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended before its threads
            self.future.get_loop().call_soon_threadsafe(function, *arguments)

    def _set(self, answer: HeadAnswers | BaseException) -> None:
        if self.future.done():  # cancelled
            return
        if isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Workers:
    """Threads that decode and classify.

    On the CPU each thread computes what it has decoded, alone with one thread of ONNX Runtime,
    which gives the most answers a second and the very numbers of `Classifier.predict`. With a
    batch size above 1 they decode only, and one more thread computes whatever is ready at once.

    The threads start with the first picture, unless told to before: those of a process that forks,
    as a server may once it has loaded its application, are not there in the new one.

    The queue and its threads are plain ones: with `ThreadPoolExecutor` and `asyncio.wrap_future`
    each picture goes through three futures, which costs the server a tenth of its own time.

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
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._in_flight = 0
        self._counting = threading.Lock()
        self._seconds = 0.0  # for one picture, a moving average
        self._batch_size = batch_size
        self._batches: _Batches | None = None
        self._pool: list[threading.Thread] = []
        self._ended = False

    @property
    def waiting(self) -> int:
        """How many pictures wait for a thread."""
        return max(0, self._in_flight - self.threads)

    @property
    def working(self) -> int:
        """How many pictures are worked on."""
        return min(self._in_flight, self.threads)

    def start(self) -> None:
        """Start the threads, unless they have been.

        Raises:
            RuntimeError: they have ended.
        """
        with self._counting:
            self._start()

    async def answer(self, pictures: Sequence[Picture]) -> list[HeadAnswers]:
        """Classify pictures that have come in whole; all are taken, or none.

        Pictures that wait are dropped when the caller is cancelled.

        Raises:
            FullError: the queue has too little room for them.
            ImageError: one cannot be classified.
            RuntimeError: the threads have ended.
        """
        with self._counting:
            self._start()
            if self._in_flight + len(pictures) > self.max_queue + self.threads:
                raise FullError(self._seconds_until_room())
            self._in_flight += len(pictures)
        loop = asyncio.get_running_loop()
        jobs = [_Job(picture, loop.create_future()) for picture in pictures]
        for job in jobs:
            self._jobs.put(job)
        try:
            return [await job.future for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()
                self._drop(job)

    def close(self) -> None:
        """End the threads, after what was begun; what waits is dropped."""
        atexit.unregister(self.close)
        with self._counting:
            self._ended = True
        with suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job.cancel()
        for _ in self._pool:
            self._jobs.put(None)
        for thread in self._pool:
            thread.join()
        if self._batches is not None:
            self._batches.close()

    def _start(self) -> None:
        if self._ended:
            raise RuntimeError("the server has ended")
        if self._pool:
            return
        # Daemons: a program may end before its server does. What is computed then is waited for.
        atexit.register(self.close)
        if self._batch_size > 1:
            self._batches = _Batches(self._models, self._batch_size, self._finish)
        self._pool = [
            threading.Thread(target=self._work, name=f"fic-serve-{number}", daemon=True)
            for number in range(self.threads)
        ]
        for thread in self._pool:
            thread.start()

    def _drop(self, job: _Job) -> None:
        with self._counting:
            if job.picture is not None:
                job.picture = None
                self._in_flight -= 1

    def _work(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Wait for a picture and work on it; return False at the end."""
        if (job := self._jobs.get()) is None:
            return False
        with self._counting:
            picture, job.picture = job.picture, None
        if picture is None:
            return True
        answer: HeadAnswers | BaseException
        try:
            if self._batches is not None:
                self._batches.add(job, self._decode(picture))
                return True
            answer = self._classify(picture)
        except BaseException as error:  # handed over to who waits
            answer = error
        self._finish(job, answer)
        # An error knows this frame: they and the picture would stay until Python looks for circles.
        del job, answer
        return True

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

    def _finish(self, job: _Job, answer: HeadAnswers | BaseException) -> None:
        with self._counting:
            self._in_flight -= 1
        job.deliver(answer)

    def _seconds_until_room(self) -> int:
        seconds = math.ceil(self._in_flight * self._seconds / self.threads)
        return min(max(seconds, 1), _MOST_SECONDS_TO_WAIT)


class _Batches:
    """One thread that computes all that is decoded, up to a batch at once."""

    def __init__(
        self,
        models: Models,
        size: int,
        finish: Callable[[_Job, HeadAnswers | BaseException], None],
    ) -> None:
        self._models = models
        self._size = size
        self._finish = finish
        self._ready: queue.SimpleQueue[tuple[_Job, Pixels8] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fic-serve-batches", daemon=True)
        self._thread.start()

    def add(self, job: _Job, pixels: Pixels8) -> None:
        """Take a picture that is decoded."""
        self._ready.put((job, pixels))

    def close(self) -> None:
        """End the thread, after what was added."""
        self._ready.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Wait for pictures and compute them; return False at the end."""
        taken = [self._ready.get()]
        with suppress(queue.Empty):
            while len(taken) < self._size and taken[-1] is not None:
                taken.append(self._ready.get_nowait())
        jobs = [pair for pair in taken if pair is not None]
        if jobs:
            self._answer(jobs)
        return len(jobs) == len(taken)

    def _answer(self, jobs: list[tuple[_Job, Pixels8]]) -> None:
        answers: Sequence[HeadAnswers | BaseException]
        try:
            answers = self._models.predict_batch([pixels for _, pixels in jobs])
        except ImageError as error:
            if len(jobs) > 1:  # of one picture alone; the others are not to go without
                for pair in jobs:
                    self._answer([pair])
                return
            answers = [error]
        except BaseException as error:  # handed over to those who wait
            answers = [error] * len(jobs)
        for (job, _), answer in zip(jobs, answers, strict=True):
            self._finish(job, answer)
