"""Large pictures take turns: what all threads decode at once stays within one budget."""

import os
import threading
import time

import cv2
import numpy as np
import pytest

from fic_runtime import Classifier
from fic_runtime.errors import ImageError
from fic_runtime.images import decode_image, loading, memory
from fic_runtime.images.memory import Budget, decoding


def test_what_fits_is_given_at_once_and_what_does_not_waits():
    budget = Budget(100)
    budget.take(60)
    budget.take(40)
    order = []

    def large():
        budget.take(80)
        order.append("large")
        budget.give(80)

    def small():
        budget.take(10)
        order.append("small")
        budget.give(10)

    threads = [threading.Thread(target=large), threading.Thread(target=small)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert order == []
    budget.give(40)  # room for the small one, which came later
    time.sleep(0.05)
    assert order == []
    budget.give(60)
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


def test_what_is_larger_than_the_budget_has_it_alone():
    budget = Budget(100)
    budget.take(500)
    budget.give(500)
    budget.take(100)


@pytest.fixture
def most(monkeypatch):
    """Let every picture count; return what was decoded at once, at most, with room for two."""
    at_once, peaks = [0], []
    lock = threading.Lock()
    real = loading._decoded

    def decoded(*arguments):
        with lock:
            at_once[0] += 1
            peaks.append(at_once[0])
        time.sleep(0.02)
        try:
            return real(*arguments)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(memory, "_SMALL", 0)
    monkeypatch.setattr(memory, "_pixels", Budget(2 * 64 * 48 * 6))
    monkeypatch.setattr(loading, "_decoded", decoded)
    return peaks


PICTURE = bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1])


def test_a_stream_of_many_workers_stays_within_the_budget(golden, most):
    with Classifier(golden, device="cpu") as classifier:
        answers = list(classifier.stream([PICTURE] * 12, workers=6))
    assert len(answers) == 12
    assert max(most) == 2


def test_the_memory_is_given_back_whatever_happens(most):
    for _ in range(5):
        with pytest.raises(ImageError):
            decode_image(PICTURE[:60] + bytes(20) + PICTURE[80:])
        with decoding(), decoding():
            decode_image(PICTURE)
    assert memory._pixels._used == 0


def test_one_picture_that_takes_too_much_is_an_error_of_that_picture(golden, monkeypatch):
    real = loading._decoded

    def decoded(header, *rest):
        if header.width == 64:
            raise MemoryError
        return real(header, *rest)

    monkeypatch.setattr(loading, "_decoded", decoded)
    small = bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1])
    with Classifier(golden, device="cpu") as classifier:
        first, second = classifier.stream([PICTURE, small], on_error="yield")
    assert "takes more memory than there is" in str(first)
    assert second.label


def test_a_classifier_may_have_a_limit_of_its_own(golden):
    with Classifier(golden, device="cpu", max_pixels=3000) as classifier:
        with pytest.raises(ImageError, match="past the limit of 3000 pixels"):
            classifier.predict(PICTURE)
        with pytest.raises(ImageError, match=r"picture 0: .*past the limit of 3000 pixels"):
            classifier.predict_batch([PICTURE])
        assert classifier.predict(np.zeros((100, 100, 3), np.uint8)).label  # decoded already
    with pytest.raises(ValueError, match="max_pixels is at least 1"):
        Classifier(golden, max_pixels=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_was_forked_has_a_budget_of_its_own():
    memory._pixels.take(10**9)
    try:
        child = os.fork()
        if not child:
            os._exit(memory._pixels._used != 0)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        memory._pixels.give(10**9)
