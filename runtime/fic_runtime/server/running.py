"""A process that serves an application until a signal comes."""

import dataclasses
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.applications import Starlette

from ..errors import ServerError
from .access import JsonLines
from .connections import protocol_with
from .limits import Limits
from .service import Service

_FILES_FOR_OTHERS = 64  # of the descriptors that a process may have
_BACKLOG = 2048  # connections that the system holds until they are accepted
# A thread that has computed waits so long, at most, until the thread of the connections lets it
# run; Python's 5 ms are as long as a picture takes.
_SECONDS_OF_A_TURN = 0.0005


def bind(host: str, port: int) -> socket.socket:
    """Take an address, before anything slow is done.

    Args:
        host: a name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        ServerError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        # Python says the address once more in the text of the error.
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise ServerError(
            f"{host}:{port}: cannot be listened on ({reason}); choose another --port or --host"
        ) from error


def serve(app: Starlette, listener: socket.socket, limits: Limits) -> Service:
    """Serve until SIGTERM or Ctrl-C: what was taken is finished, what is new refused.

    Returns:
        the application's service, which says whether it failed its self-test.

    Raises:
        KeyboardInterrupt: at the end, if it was Ctrl-C.
    """
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        # Not uvloop where it is installed: it raises when a client has gone before its answer.
        loop="asyncio",
        http=protocol_with(_within_descriptors(limits)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.idle_seconds,
        backlog=_BACKLOG,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    service.on_failure = stop
    # uvicorn raises the signal again at its end: after SIGTERM all is well, and the code is 0.
    # It may come before uvicorn listens to it, too.
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        service.workers.start()  # before this thread steps back, as those that it starts would
        with _computing_first(), _silent_once_forced(server):
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
    return service


@contextmanager
def _silent_once_forced(server: uvicorn.Server) -> Iterator[None]:
    """Keep uvicorn from a traceback for everything that the second Ctrl-C cuts off."""
    logger = logging.getLogger("uvicorn.error")

    def wanted(_: logging.LogRecord) -> bool:
        return not server.force_exit

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@contextmanager
def _computing_first() -> Iterator[None]:
    """Let this thread wait for a processor until those that compute have had their turn.

    It would interrupt them for every packet, and each time the processor's caches would have to be
    filled again. Where a processor is free nothing changes.
    """
    turn = sys.getswitchinterval()
    sys.setswitchinterval(_SECONDS_OF_A_TURN)
    on_linux = hasattr(os, "SCHED_BATCH")
    normal = False
    with suppress(OSError):  # a container may forbid it, and some C libraries have none of it
        normal = on_linux and os.sched_getscheduler(0) == os.SCHED_OTHER  # not chosen from outside
        if normal:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        sys.setswitchinterval(turn)
        with suppress(OSError):
            if normal:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def log_as_json(*, access: bool) -> None:
    """Write the program's log to stderr, one JSON object a line.

    Args:
        access: with a line for each request.
    """
    # No line tells of them, and each request would pay for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # It calls what a client sends wrongly an error of its own.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    logging.getLogger("fic_runtime").setLevel(logging.INFO)
    logging.getLogger("fic_runtime.server.access").setLevel(
        logging.INFO if access else logging.WARNING
    )


def _within_descriptors(limits: Limits) -> Limits:
    """Return limits with at most as many connections as the process may have files."""
    try:
        import resource  # not on Windows
    except ImportError:
        return limits
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    most = max(1, min(limits.max_connections, soft - _FILES_FOR_OTHERS))
    return dataclasses.replace(limits, max_connections=most)
