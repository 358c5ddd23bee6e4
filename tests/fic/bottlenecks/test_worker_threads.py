import threading
import time
from collections.abc import Iterator

import pytest

from fic.bottlenecks.worker_threads import in_parallel


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_every_item_is_worked_on_once() -> None:
    assert sorted(in_parallel(range(50), lambda number: number * 2, workers=3)) == list(
        range(0, 100, 2)
    )


def test_results_come_in_the_order_of_the_items_on_request() -> None:
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(10)  # the first result is the last one to be ready
        if number == 3:
            later.set()
        return number

    assert list(in_parallel(range(30), work, workers=2, in_order=True)) == list(range(30))


def test_a_slow_item_does_not_let_the_others_gather_in_memory() -> None:
    slow = threading.Event()
    done: list[int] = []

    def work(number: int) -> int:
        if number == 0:
            assert slow.wait(10)
        done.append(number)
        return number

    def release() -> None:
        time.sleep(0.5)
        reached.append(len(done))
        slow.set()

    reached: list[int] = []
    timer = threading.Thread(target=release)
    timer.start()
    assert list(in_parallel(range(100), work, workers=2, in_order=True)) == list(range(100))
    timer.join()
    assert reached[0] <= 3 * 2


@pytest.mark.parametrize("in_order", [False, True])
def test_an_error_of_a_worker_comes_out_as_it_is(in_order: bool) -> None:
    def work(number: int) -> int:
        if number == 7:
            raise MemoryError("too large")
        return number

    with pytest.raises(MemoryError, match="too large") as caught:
        list(in_parallel(range(100), work, workers=2, in_order=in_order))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("in_order", [False, True])
def test_closing_ends_the_threads(in_order: bool) -> None:
    before = threading.active_count()
    results = in_parallel(iter(int, 1), lambda number: number, workers=3, in_order=in_order)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before
