"""Clients that go away while their picture waits."""

import asyncio
import threading

import pytest

from fic_runtime.server import Limits, create_app
from fic_runtime.server.disconnects import WHEN_LOST
from fic_runtime.server.models import Models


@pytest.fixture
def gate(monkeypatch):
    """Return an event for which every prediction waits; it is set at first."""
    gate, predict = threading.Event(), Models.predict
    gate.set()
    monkeypatch.setattr(
        Models, "predict", lambda self, pixels: gate.wait(20) and predict(self, pixels)
    )
    yield gate
    gate.set()


class Client:
    """One request to an application in this process, without a server between."""

    def __init__(self, app, picture, state):
        self.leaves = asyncio.Event()
        self.status = None
        self.state = state
        self._parts = [{"type": "http.request", "body": picture, "more_body": False}]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": b"",
            "headers": [],
            "state": state,
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self):
        if self._parts:
            return self._parts.pop()
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.status = message.get("status", self.status)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def leave_by_protocol(client):
    client.leaves.set()


def leave_by_connection(client):
    (call,) = client.state[WHEN_LOST]
    call()


@pytest.mark.parametrize(
    ("state", "leave"),
    [({}, leave_by_protocol), ({WHEN_LOST: set()}, leave_by_connection)],
    ids=["another server", "its own connections"],
)
def test_a_picture_is_dropped_whose_client_has_gone(golden, picture, gate, state, leave):
    app = create_app(golden, limits=Limits(workers=1))
    workers = app.state.service.workers

    async def ask():
        async with app.router.lifespan_context(app):
            await until(lambda: app.state.service.ready)
            gate.clear()
            stays = Client(app, picture, {})
            await until(lambda: workers.working)
            leaves = Client(app, picture, state)
            await until(lambda: workers.waiting)
            leave(leaves)
            await leaves.task
            assert (workers.working, workers.waiting) == (1, 0)
            gate.set()
            await stays.task
            return stays.status, leaves.status

    assert asyncio.run(ask()) == (200, 499)
    assert not state.get(WHEN_LOST)


def test_a_task_that_is_ended_by_others_is_not_taken_for_a_client_that_has_gone(
    golden, picture, gate
):
    app = create_app(golden, limits=Limits(workers=1))

    async def ask():
        async with app.router.lifespan_context(app):
            await until(lambda: app.state.service.ready)
            gate.clear()
            client = Client(app, picture, {})
            await until(lambda: app.state.service.workers.working)
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
            gate.set()

    asyncio.run(ask())
