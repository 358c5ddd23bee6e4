"""Ctrl-C ends whatever ONNX Runtime is at work on; what is quick runs where it was called."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fic_runtime.graphs.interrupting import Interruptible, interrupt_all

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of this kind")


def endless(options):
    """Run as ONNX Runtime does, which looks at its options between two steps."""
    while not options.terminate:
        time.sleep(0.01)
    raise RuntimeError("terminated")


@POSIX
def test_ctrl_c_ends_a_run_in_the_main_thread():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Interruptible().call(endless, 1)
    assert time.monotonic() - began < 1.5


def test_runs_of_other_threads_end_when_all_are_interrupted():
    runs, errors = Interruptible(), []

    def work():
        try:
            runs.call(endless, 1)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    interrupt_all()
    thread.join(5)
    assert errors == ["terminated"]
    assert runs.call(lambda options: options.terminate, 1) is False  # later ones are as ever


def test_a_batch_that_was_quick_runs_in_its_own_thread_from_then_on():
    runs, threads = Interruptible(), []
    for items in (4, 4, 3, 5):
        assert runs.call(lambda _: threads.append(threading.current_thread()), items) is None
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [False, True, True, False]


def test_an_error_of_a_run_is_raised_where_it_was_called():
    with pytest.raises(ZeroDivisionError):
        Interruptible().call(lambda _: 1 // 0, 1)


@POSIX
def test_a_command_ends_after_ctrl_c_whatever_it_is_at_work_on():
    program = """
import ctypes, threading, time
from fic_runtime.cli import interrupting
interrupting._PATIENCE = 0.3
stuck = threading.Thread(target=ctypes.CDLL(None).sleep, args=(30,))  # Python waits for its end
with interrupting.ended_by_interrupt():
    stuck.start()
    print("ready", flush=True)
    time.sleep(30)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 130
