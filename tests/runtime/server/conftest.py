"""Applications to ask in this process, and servers in processes of their own."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

if None in (find_spec("starlette"), find_spec("uvicorn")):  # without the extra
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Return a function that starts an application and returns a client that is let in."""
    pytest.importorskip("httpx2")
    from starlette.testclient import TestClient

    from fic_runtime.server import create_app

    with ExitStack() as clients:

        def start(classifier: Any, *, ready: bool = True, **options: Any) -> TestClient:
            client = clients.enter_context(TestClient(create_app(classifier, **options)))
            while ready and not client.get("/v2/health/ready").json()["ready"]:
                time.sleep(0.01)
            return client

        yield start


@pytest.fixture
def client(serve: Callable[..., Any], golden: Path) -> Any:
    """Return a client of the golden bundle."""
    return serve(golden)


@pytest.fixture(scope="session")
def picture(golden: Path) -> bytes:
    return (golden / "large.png").read_bytes()


@pytest.fixture
def doubting(bundle: Path, edit: Callable[..., None]) -> Path:
    """Return a bundle to which every picture is unknown."""
    score = {"method": "maximum_probability", "threshold": -10.0, "file": None}
    edit(lambda values: values.update(known={**score, "false_rejection": 0.05}))
    return bundle


class Server:
    """A `fic-runtime serve` on a free port."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        # Not a pipe, which would be full after some hundred requests and stop the server.
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 # in stop
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fic_runtime", "serve", *arguments, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        port = urlsplit(self.process.stdout.readline()).port
        assert port is not None
        self.port = port

    def wait_until_ready(self) -> "Server":
        until = time.monotonic() + 30
        while self.ask("GET", "/v2/health/ready")[0] != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        return self

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        json_body = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if json_body else text

    def stop(self, how: signal.Signals = signal.SIGTERM, code: int = 0) -> str:
        """End the server and return its log."""
        self.process.send_signal(how)
        return self.ended(code)

    def ended(self, code: int = 0) -> str:
        """Wait for the end of the server and return its log."""
        self.process.communicate(timeout=30)
        with self._log as file:
            file.seek(0)
            log = file.read()
        assert self.process.returncode == code, log
        return log


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server, which is ready and leaves no traceback."""
    servers = []

    def start(*arguments: str | Path, **environment: str) -> Server:
        servers.append(Server(*arguments, **environment))
        return servers[-1].wait_until_ready()

    yield start
    for each in servers:
        if each.process.poll() is None:
            assert "raceback" not in each.stop()
