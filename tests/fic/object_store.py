"""An S3 server on this machine, behind a proxy that can be told to be slow, to fail and to lie."""

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fic.data.remote import _file_system

PASSWORD = "very-secret-key-of-the-store"


@dataclass
class Fault:
    """What the proxy does to the next `times` requests of `method` whose path holds `part`."""

    method: str
    part: str
    kind: str  # slow: no answer at all; 500, cut, short, etag
    times: int


class ObjectStore:
    """The proxy, and what went through it."""

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._port = port
        self._released = threading.Event()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _pass_on(self) -> None:
                store._answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.reset()
        self._server.shutdown()
        self._server.server_close()

    def break_next(self, method: str, part: str, kind: str, times: int = 1) -> None:
        self.faults.append(Fault(method, part, kind, times))

    def reset(self) -> None:
        self.faults.clear()
        self.requests.clear()
        self._released.set()
        self._released = threading.Event()

    def count(self, start: str) -> int:
        return sum(request.startswith(start) for request in self.requests)

    def _fault(self, method: str, path: str) -> str:
        for fault in self.faults:
            if fault.times and fault.method == method and fault.part in path:
                fault.times -= 1
                return fault.kind
        return ""

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        self.requests.append(f"{request.command} {request.path}")
        kind = self._fault(request.command, request.path)
        if kind == "slow":
            self._released.wait(60)
            request.close_connection = True
            return
        if kind == "500":
            request.send_response(500)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port)) as upstream:
            upstream.request(request.command, request.path, body, dict(request.headers))
            answer = upstream.getresponse()
            data, status, headers = answer.read(), answer.status, dict(answer.headers)
        if kind == "short":
            data = data[: len(data) // 2]
        request.send_response_only(status)
        for name, value in headers.items():
            if kind == "etag" and name == "ETag":
                value = '"0123456789abcdef0123456789abcdef"'
            if kind == "short" and name.lower().startswith("x-amz-checksum"):
                continue  # a liar who is consistent
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                request.send_header(name, value)
        length = int(headers.get("Content-Length") or 0) if request.command == "HEAD" else len(data)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        if kind == "cut":
            data = data[: len(data) // 2]
            request.close_connection = True
        with contextlib.suppress(OSError):
            request.wfile.write(data)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let fic wait so long for a server: by default as long as a busy machine may need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIC_REMOTE_TIMEOUT", str(seconds))
        _file_system.cache_clear()  # which know the time before
        try:
            yield
        finally:
            _file_system.cache_clear()


@contextlib.contextmanager
def running_object_store(log: Path) -> Iterator[ObjectStore]:
    """Start moto's server with the buckets `photos` and `cache`, and the proxy before it."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 120
        while (
            running := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text())
        ) is None:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        port = int(running[1])
        store = ObjectStore(port)
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in [name for name in os.environ if name.startswith("AWS_")]:
                    patch.delenv(name)
                patch.setenv("AWS_ACCESS_KEY_ID", "reader")
                patch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
                patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
                patch.setenv("AWS_ENDPOINT_URL", store.url)
                patch.delenv("FIC_REMOTE_TIMEOUT", raising=False)
                for bucket in ("photos", "cache"):
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request("PUT", f"/{bucket}")
                    assert connection.getresponse().status == 200
                    connection.close()
                _file_system.cache_clear()  # which know the server before
                yield store
        finally:
            _file_system.cache_clear()  # which know the server before
            store.close()
    finally:
        server.terminate()
        server.wait(10)
