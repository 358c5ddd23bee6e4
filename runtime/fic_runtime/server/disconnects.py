"""Clients that go away before their answer."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.requests import ClientDisconnect, Request

# In the state of a request: a set of what this project's own connections call when they are lost.
WHEN_LOST = "when_lost"


class UnlessGone:
    """A context that ends when the client goes away, whatever it waits for.

    Raises:
        ClientDisconnect: at its end, then.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._when_lost: set[Callable[[], None]] | None = request.scope["state"].get(WHEN_LOST)
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._when_lost is not None:
            self._when_lost.add(self._leave)
        else:  # another server, which tells it to who asks for more of the request
            self._watching: asyncio.Task[None] = asyncio.create_task(self._watch())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._when_lost is not None:
            self._when_lost.discard(self._leave)
        else:
            self._watching.cancel()
        # Nobody else may want the task to end.
        if self._gone and kind is asyncio.CancelledError and not self._task.uncancel():
            raise ClientDisconnect from None

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._task.cancel()
