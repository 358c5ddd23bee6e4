"""Ctrl-C while ONNX Runtime is at work, which Python does not see before that is done.

A graph of a stranger may take hours. So what may take long runs in a thread of its own, where
Python waits as it can be interrupted; what is known to be quick runs where it was called.
"""

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from .onnx_runtime import onnxruntime

Result = TypeVar("Result")

_QUICK = 1.0  # seconds that nobody minds to wait after Ctrl-C
_PATIENCE = 2.0  # seconds: a run ends between two of its steps, and one step may take long


class Interruptible:
    """The runs of one graph, which Ctrl-C ends."""

    def __init__(self) -> None:
        self._options: Any = onnxruntime.RunOptions()
        self._quick = 0  # items in the largest batch that was quick
        _all.add(self)

    def call(self, run: Callable[[Any], Result], items: int) -> Result:
        """Return what `run` gives, which gets ONNX Runtime's RunOptions.

        Args:
            run: calls ONNX Runtime once.
            items: in its batch. A graph without loops takes as long for as many again.
        """
        if items <= self._quick or threading.current_thread() is not threading.main_thread():
            return run(self._options)
        started = time.monotonic()
        result = self._waited_for(run)
        if time.monotonic() - started < _QUICK:
            self._quick = items
        return result

    def interrupt(self) -> None:
        """End the runs that are at work, with an error; later ones are as ever."""
        at_work, self._options = self._options, onnxruntime.RunOptions()
        at_work.terminate = True

    def _waited_for(self, run: Callable[[Any], Result]) -> Result:
        results: list[Result] = []
        errors: list[BaseException] = []
        done = threading.Event()
        options = onnxruntime.RunOptions()  # of this run: others on this graph go on

        def work() -> None:
            try:
                results.append(run(options))
            except BaseException as error:  # raised where it was called
                errors.append(error)
            finally:
                done.set()

        # A daemon: a program that ends shall not wait for a step that does not.
        threading.Thread(target=work, name="fic-run", daemon=True).start()
        try:
            done.wait()
        except BaseException:
            options.terminate = True
            done.wait(_PATIENCE)
            raise
        if errors:
            raise errors[0]
        return results[0]


_all: weakref.WeakSet[Interruptible] = weakref.WeakSet()


def interrupt_all() -> None:
    """End whatever ONNX Runtime is at work on, in all threads."""
    for each in list(_all):
        each.interrupt()
