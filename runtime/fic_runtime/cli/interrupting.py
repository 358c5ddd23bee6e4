"""Ctrl-C ends a command, whatever it is at work on."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 5.0  # seconds for what a command still has to say or to put away
_ENDING = [getattr(signal, name, 0) for name in ("SIGINT", "SIGTERM", "SIGHUP")]


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """End the process some seconds after Ctrl-C, or SIGTERM, if it does not end by itself.

    Python would wait for ONNX Runtime, which may be at one step of a stranger's graph for hours,
    and it is Python that sees Ctrl-C. So a thread listens to what the system tells at once.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reading,), name="fic-ctrl-c", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # which ends the thread


def _listen(reading: int) -> None:
    number = 0
    while signals := os.read(reading, 64):
        number = next((each for each in _ENDING if each in signals), 0)
        if number:
            break
    os.close(reading)
    if not number:
        return
    graphs = sys.modules.get("fic_runtime.graphs.interrupting")
    if graphs is not None:  # else nothing is at work
        graphs.interrupt_all()
    time.sleep(_PATIENCE)
    os._exit(128 + number)  # as shells have it
