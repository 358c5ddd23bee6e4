"""What the benchmarks share: photos, turns, medians, and the cost in processor time.

Machines are noisy, so both sides of a ratio are measured in turn within one run, the ratio is
taken turn by turn, and the median of the ratios is what counts.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def some_photos(folder: Path, number: int) -> list[Path]:
    """Return at most `number` of the `.jpg` files below a folder, from all parts of it."""
    files = sorted(folder.rglob("*.jpg"))
    return files[:: max(1, len(files) // number)][:number]


def in_turn(rounds: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Call each side once a round, A B A B ..., and return its figures."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            figures[name].append(measure())
        shown = "  ".join(f"{name} {values[-1]:.4g}" for name, values in figures.items())
        print(f"round {number + 1}/{rounds}: {shown}", flush=True)
    return figures


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of two sides measured in turn."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def spread(values: Sequence[float]) -> str:
    """Return the median with the least and the largest value."""
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def wall_seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu_seconds_at_full_load(
    work: Callable[[Any], Any], items: Sequence[Any], threads: int
) -> float:
    """Return the processor time that `work` on all items takes, with `threads` of them at once."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.process_time()
        list(pool.map(work, items))
        return time.process_time() - started


def without_autotune(data: Any) -> Any:
    """Return a tf.data pipeline whose iterator ends at once.

    With autotuning on, TensorFlow 2.21 was seen to wait at the end of each pass for its tuning
    thread to wake up, for 10 ms times a power of two: 5.12 or 10.24 s on top of 2.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
