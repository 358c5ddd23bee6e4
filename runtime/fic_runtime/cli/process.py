"""What a program owes to whoever starts it: streams that work, and an end when it is told to.

Shared by `fic` and `fic-runtime`. Only the standard library is needed.
"""

import codecs
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from ..errors import one_line

_ESCAPES = "fic-escapes"


class Terminated(KeyboardInterrupt):
    """A signal asks the program to end, as Ctrl-C does.

    Attributes:
        exit_code: 128 and the number of the signal, as shells have it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code: int = 128 + number


_told: list[Terminated] = []  # of the signals that this process was to end by


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a program that was interrupted: 143 by SIGTERM, 130 by Ctrl-C."""
    return error.exit_code if isinstance(error, Terminated) else 128 + signal.SIGINT


def interruption_behind(error: BaseException) -> BaseException | None:
    """Return the interruption that an error is the consequence of, if it is one.

    A library that is interrupted while it is loaded says in words of its own that it failed
    (ONNX Runtime: `ImportError: initialization failed`), and the signal is not told of.
    """
    if _told:
        return _told[-1]
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen


def shortage(error: BaseException) -> str | None:
    """Return a sentence for an error that says that this machine gives a program too little.

    None for any other. Large libraries do not fit in the memory that a process may have, or their
    files are damaged; a container may have few threads.
    """
    if isinstance(error, MemoryError):
        return "the memory of this machine does not suffice; take smaller batches or less"
    if isinstance(error, ImportError):
        return f"a library cannot be loaded ({one_line(error)}); free memory or install it again"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return (
            "no more threads can be started here; raise the limit of processes (ulimit -u, or that "
            "of the container)"
        )
    return None


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise `Terminated` in the block on SIGTERM and SIGHUP, so that both are like Ctrl-C.

    Process 1 of a container has no such handlers of the system's, and would ignore both. A signal
    that the caller chose to ignore (nohup) stays ignored.
    """
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    before = {}
    _told.clear()
    try:
        for number in numbers:
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    except ValueError:
        pass  # not the main thread, as in a test: the handlers are somebody else's
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # the cleaning up is not to be interrupted
    _told.append(Terminated(number))
    raise _told[-1]


def prepare_streams() -> None:
    """Let output never fail for want of a stream or of a letter.

    A stream that is closed (`>&-`, services, pythonw) leads nowhere: a file opened later would
    otherwise get its number, and with it what libraries print. Letters that an encoding lacks,
    and names that are no text, stand as escapes of JSON: `\\u20ac`, `\\udce9`.
    """
    _fill_descriptors()
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    codecs.register_error(_ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)


def silence(stream: TextIO) -> None:
    """Lead a stream that cannot be written nowhere, so that Python does not fail when it closes."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def silence_broken(stream: TextIO) -> None:
    """Do so if what waits in the stream cannot be written."""
    with surviving(stream):
        stream.flush()


@contextmanager
def surviving(stream: TextIO) -> Iterator[None]:
    """Go on where what the block writes to a stream finds a full disk or no reader."""
    try:
        yield
    except OSError:
        silence(stream)


def _fill_descriptors() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)


def _nowhere(mode: str) -> TextIO:
    # Open as long as the program is; text of any kind may go there.
    return open(os.devnull, mode, encoding="utf-8", errors="backslashreplace")  # type: ignore[return-value] # noqa: PTH123


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    units = letters.encode("utf-16-be", "surrogatepass")
    pairs = (units[start : start + 2].hex() for start in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end
