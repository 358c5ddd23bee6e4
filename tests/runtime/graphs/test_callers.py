"""Callers of a graph are counted, so that many at once have a thread each."""

import threading

import numpy as np
import pytest

from fic_runtime.graphs import callers as module
from fic_runtime.graphs.callers import Callers
from fic_runtime.graphs.graph import Graph


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose number is the time."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("threads", "many"), [(1, 2), (2, 2), (4, 2), (16, 8)])
def test_many_are_half_as_many_as_the_threads_and_two_at_least(threads, many, clock):
    callers = Callers(threads)
    for _ in range(many - 1):
        assert not callers.__enter__()
    assert callers.__enter__()


def test_a_crowd_is_remembered_for_a_moment_and_then_forgotten(clock):
    callers = Callers(2)
    with callers, callers:
        pass
    with callers as are_many:
        assert are_many
    clock[0] += 1
    with callers as are_many:
        assert not are_many


def test_a_single_caller_has_all_threads_and_several_have_one_each(golden):
    graph = Graph(golden / "base.onnx", device="cpu", threads=2)
    pixels = np.zeros((1, *graph.input.shape[1:]), np.uint8)
    before = graph.run(pixels)
    assert graph._one_thread is None
    together = threading.Barrier(4)
    answers = []

    def call():
        with graph._callers:  # two are at work whatever the others do
            together.wait(30)
            answers.append(graph.run(pixels))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert graph._one_thread
    for answer in answers:
        np.testing.assert_array_equal(answer, before)
