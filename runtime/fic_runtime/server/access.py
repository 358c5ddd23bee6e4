"""Around every request: its ID, its line in the log, and its figures."""

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import printable_json
from .answers import Json
from .metrics import Metrics

ID_HEADER = "X-Request-ID"
GONE = 499  # the client went away before its answer

log = logging.getLogger(__name__)

_ENCODER = json.JSONEncoder(ensure_ascii=False)

_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


class Access:
    """ASGI middleware that counts and logs requests, and gives each an ID.

    The ID is the one that the client sent, if it is a short word. Logs one JSON object a request to
    the logger of this module, as INFO.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        id = state["request_id"] = _request_id(scope)
        status, sent = GONE, 0

        async def count_and_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (ID_HEADER.lower().encode(), id.encode()),
                ]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count_and_send)
        except Exception:
            log.exception("request %s failed; please report it", id)
            if status == GONE:
                await Json({"error": "the server made a mistake"}, 500)(
                    scope, receive, count_and_send
                )
        finally:
            self._finish(scope, status, sent, time.perf_counter() - started)

    def _finish(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        state, route = scope["state"], scope["state"].get("route", "other")
        self._metrics.count_request(route, _known_method(scope["method"]), str(status), seconds)
        if log.isEnabledFor(logging.INFO):
            client = scope.get("client")
            line = {
                "id": state["request_id"],
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
                "sent": sent,
                **state.get("logged", {}),
            }
            # Not `log.info`, which looks for the line of code, the same every time.
            record = log.makeRecord(
                log.name, logging.INFO, __file__, 0, "%s", (Line(line),), None, "access"
            )
            log.handle(record)


class Line:
    """A line of the log: an object that a formatter may take apart, JSON as text."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __str__(self) -> str:
        return _json(self.values)


class JsonLines(logging.Formatter):
    """Writes every record as one JSON object a line, with its time and level."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], Line):
            values |= record.args[0].values
        else:
            values |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return _json(values)


def _json(values: Mapping[str, Any]) -> str:
    return printable_json(_ENCODER.encode(values))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _ID.fullmatch(text):
                return str(text)
    return os.urandom(16).hex()


def _known_method(method: str) -> str:
    # Whatever a client makes up must not become a series of its own.
    return method if method in ("GET", "HEAD", "OPTIONS", "POST") else "other"
