"""Which connections may have to make room for another one."""

import asyncio
from unittest.mock import Mock

import pytest

from fic_runtime.server import Limits

SENT_AHEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
)


@pytest.mark.parametrize(("body", "waits"), [(b"ab", False), (b"a", True)])
def test_a_connection_waits_while_a_request_sent_ahead_is_not_there_in_whole(body, waits):
    uvicorn = pytest.importorskip("uvicorn", exc_type=ImportError)  # which needs click

    from fic_runtime.server.connections import protocol_with

    async def ask():
        go_on = asyncio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/slow":
                await go_on.wait()
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

        protocol = protocol_with(Limits())
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None)
        connection = protocol(config, uvicorn.server.ServerState(), {})
        transport = Mock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        transport.get_extra_info.return_value = None
        connection.connection_made(transport)
        connection.data_received(SENT_AHEAD + body)
        while connection.pipeline:  # the first has its answer
            await asyncio.sleep(0)
        found = connection in connection.waiting
        go_on.set()
        while not connection.cycle.response_complete:
            await asyncio.sleep(0)
        assert connection in connection.waiting
        connection.connection_lost(None)
        return found

    assert asyncio.run(asyncio.wait_for(ask(), 20)) is waits
