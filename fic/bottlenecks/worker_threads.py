"""Threads that turn items into results, with a bounded number of both in memory.

For sources that never wait, with results as they are done; `fic_runtime.streaming` is for those
that may be silent, and says how the two differ.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    workers: int,
    in_order: bool = False,
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item; an error of a worker is raised here as it is.

    Close the generator to end the threads.

    Args:
        workers: number of threads.
        in_order: yield the results in the order of the items, not as each is done.
    """
    todo = enumerate(items)
    done: queue.Queue[tuple[int, Result] | BaseException | None] = queue.Queue(2 * workers)
    stop = threading.Event()
    turn = threading.Lock()
    # In order, the results of later items wait for a slow one, so these must be bounded too.
    tickets = threading.Semaphore(3 * workers)

    def run() -> None:
        try:
            while not in_order or _acquire(tickets, stop):
                with turn:
                    numbered = None if stop.is_set() else next(todo, None)
                if numbered is None:
                    break
                number, item = numbered
                _put(done, (number, work(item)), stop)
            _put(done, None, stop)
        except BaseException as error:  # handed over to the thread that waits for results
            _put(done, error, stop)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        waiting: dict[int, Result] = {}
        due = 0
        for number, result in _received(done, workers):
            if not in_order:
                yield result
                continue
            waiting[number] = result
            while due in waiting:
                yield waiting.pop(due)
                tickets.release()
                due += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _received(
    done: "queue.Queue[tuple[int, Result] | BaseException | None]", workers: int
) -> Generator[tuple[int, Result], None, None]:
    running = workers
    while running:
        received = done.get()
        if received is None:
            running -= 1
        elif isinstance(received, BaseException):
            raise received
        else:
            yield received


def _acquire(tickets: threading.Semaphore, stop: threading.Event) -> bool:
    while not stop.is_set():
        if tickets.acquire(timeout=0.2):
            return True
    return False


def _put(done: "queue.Queue[Any]", item: object, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            return done.put(item, timeout=0.2)
        except queue.Full:
            continue
