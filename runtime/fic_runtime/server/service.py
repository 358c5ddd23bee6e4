"""What the endpoints share: models, workers, figures, and whether all that is ready."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ..devices import CPU, usable_cpus
from ..errors import FicError, Log, ServerError, one_line
from .answers import RefusalError
from .bodies import Bodies
from .disconnects import UnlessGone
from .limits import Limits
from .metrics import Metrics
from .models import HeadAnswers, HeadsFolder, Models
from .workers import Picture, Workers

log: Log = Log(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True, kw_only=True)
class HeadUpdates:
    """How other heads may come while the server runs; by default in no way.

    Attributes:
        folder: is looked at every two seconds; what appears there is served.
        token: clients that send it may send a head: `POST /v2/models/NAME/heads`.
    """

    folder: Path | None = None
    token: str | None = None


class Service:
    """One server's state.

    Args:
        models: what is served.
        limits: see `Limits`.
        check: raises a FicError where this device does not give what it should; called once, in a
            thread, before the server is ready.
        updates: how other heads may come.

    Attributes:
        ready: whether the check has passed and the first pictures are classified.
        failure: why it will never be ready.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        *,
        check: Callable[[], None] | None,
        updates: HeadUpdates,
        name: str,
        version: str,
    ) -> None:
        on_cpu = models.provider == CPU
        threads = limits.workers or usable_cpus()
        self.name = name
        self.version = version
        self.models = models
        self.limits = limits
        self.updates = updates
        self.bodies = Bodies(limits)
        self.workers = Workers(
            models,
            threads=threads,
            max_queue=limits.queue_for(threads),
            max_pixels=limits.max_pixels,
            batch_size=limits.batch_size or (1 if on_cpu else 32),
        )
        self.metrics = Metrics(self.workers, self.bodies, model=name, version=version)
        self.ready = False
        self.failure: FicError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._check = check
        self._numbers = count(1)
        self._closing = ExitStack()
        self._preparation: asyncio.Task[None] | None = None
        self._prepared = asyncio.Event()

    def start(self) -> None:
        """Begin to prepare; the server answers meanwhile that it is not ready."""
        if self._preparation is None:
            self._preparation = asyncio.create_task(self._prepare())

    async def close(self) -> None:
        """End the threads, after what was begun; what comes then is refused."""
        self.ready = False
        self.metrics.ready.set(0)
        if self._preparation is not None:
            self._preparation.cancel()
        await run_in_threadpool(self.workers.close)
        self._closing.close()

    async def check_ready(self) -> None:
        """Make sure that pictures can be classified.

        Raises:
            RefusalError: not yet.
        """
        if self._preparation is None:  # part of another application that did not start it
            self.start()
            await self._prepared.wait()
        if not self.ready:
            raise _not_ready()

    async def classify(self, request: Request, pictures: Sequence[Picture]) -> list[HeadAnswers]:
        """Classify the pictures of a request, unless its client goes away.

        Raises:
            ClientDisconnect: it did.
            FullError: the queue has no room.
            ImageError: one cannot be classified.
        """
        if not self.ready:  # any more
            raise _not_ready()
        with UnlessGone(request):
            answers = await self.workers.answer(pictures)
        self.metrics.pictures.inc(len(pictures))
        request.scope["state"]["logged"] = {"pictures": len(pictures)}
        return answers

    async def take_head(self, name: str, archive: bytes) -> None:
        """Serve the head of an archive that was sent.

        Raises:
            FicError: it cannot be used.
        """
        await run_in_threadpool(self._take_head, name, archive)

    def _take_head(self, name: str, archive: bytes) -> None:
        with ExitStack() as unless_served:
            folder = tempfile.TemporaryDirectory(prefix="fic-head-")
            head = Path(unless_served.enter_context(folder), f"{next(self._numbers)}.zip")
            head.write_bytes(archive)
            self.models.swap(name, head)
            # Kept until the end: a classifier may read its head again.
            self._closing.push(unless_served.pop_all())

    async def _prepare(self) -> None:
        folder = self.updates.folder and HeadsFolder(self.updates.folder, self.models)
        try:
            if self._check is not None:
                await run_in_threadpool(self._check)
            if folder:
                await run_in_threadpool(folder.take_new)
            size = self.models.geometry
            grey = Picture(np.full((size.height, size.width, 3), 128, np.uint8))
            await self.workers.answer([grey] * min(self.workers.threads, self.workers.max_queue))
            self.ready = True
            self.metrics.ready.set(1)
        except FicError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the server will never be ready
            why = f"no picture can be classified here ({one_line(error)}); please report it"
            self._fail(ServerError(why))
        finally:
            self._prepared.set()
        while folder and self.ready:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            await run_in_threadpool(folder.take_new)

    def _fail(self, error: FicError) -> None:
        log.warning("%s", error)
        self.failure = error
        self.on_failure()


def _not_ready() -> RefusalError:
    return RefusalError(
        503,
        "the server is not ready; ask /v2/health/ready",
        reason="not ready",
        headers={"Retry-After": "1"},
    )
