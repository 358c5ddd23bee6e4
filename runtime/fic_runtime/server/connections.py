"""Connections of uvicorn that cannot be held open by a client that sends next to nothing."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .disconnects import WHEN_LOST
from .limits import Limits

_MAX_HEADER_BYTES = 65_536
_GO_ON = b"HTTP/1.1 100 "
_END = b"Connection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\n" + _END
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _END
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" + _END


class _OneWrite:
    """What an answer needs of a transport; its head is sent together with the first of its body.

    uvicorn writes them one after the other, and on a small answer the second call to the system
    costs more than all else that the server does.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write, or hold the head of the answer, after which uvicorn always writes or closes."""
        if self._head is None and not data.startswith(_GO_ON):
            self._head = data
        else:
            self._transport.write((self._head or b"") + data)
            self._head = None if self._head is None else b""

    def close(self) -> None:
        """Send what was held, and close."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether nothing more will be sent."""
        return self._transport.is_closing()


def protocol_with(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol class of one server, which keeps to the limits of connections."""
    # Those whose request has not come in whole, longest waiting first.
    waiting: dict[_Connection, None] = {}
    attributes = {"limits": limits, "waiting": waiting}
    return type("Connection", (_Connection,), attributes)


class _Connection(HttpToolsProtocol):
    limits: Limits
    waiting: "dict[_Connection, None]"

    _header_deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _when_lost: set[Callable[[], None]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvicorn's own signature is narrower than asyncio's.
        super().connection_made(cast(asyncio.Transport, transport))
        self._when_lost = set()
        if len(self.connections) > self.limits.max_connections:
            self._make_room()
        if not self.transport.is_closing():
            self.waiting[self] = None
            self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.pop(self, None)
        self._header_came()
        super().connection_lost(exc)
        for call in tuple(self._when_lost):
            call()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._without_request():
            self._header_bytes += len(data)
        super().data_received(data)
        if self._without_request():
            if self._header_bytes > _MAX_HEADER_BYTES:
                self._refuse(_TOO_LARGE)
            elif self._header_deadline is None:
                self._expect_header()

    def on_headers_complete(self) -> None:
        self._header_came()
        self.scope["state"][WHEN_LOST] = self._when_lost
        super().on_headers_complete()
        if self.scope["method"] != "HEAD" and self.cycle is not None:
            self.cycle.transport = cast(asyncio.Transport, _OneWrite(self.transport))

    def on_message_complete(self) -> None:
        self.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        whole = (
            not self.cycle.response_complete and not self.cycle.more_body
        )  # the next one is here
        if not whole and not self.transport.is_closing():
            self.waiting[self] = None

    def _without_request(self) -> bool:
        # uvicorn has no cycle before the first request, whatever its types say.
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _expect_header(self) -> None:
        self._header_deadline = self.loop.call_later(
            self.limits.header_seconds, self._refuse, _TOO_LATE
        )

    def _header_came(self) -> None:
        self._header_bytes = 0
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _make_room(self) -> None:
        longest = next(iter(self.waiting), None)
        if longest is None:  # all others are being answered
            self._refuse(_TOO_MANY)
        else:
            self.waiting.pop(longest)
            longest.transport.abort()

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if self._without_request():
                self.transport.write(answer)
            self.transport.close()
