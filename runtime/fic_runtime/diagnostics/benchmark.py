"""How fast a bundle is on this machine: `fic-runtime bench`."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..classifier import Classifier
from ..devices import Device, chosen_threads
from ..errors import OutputError
from ..images import load_image, to_rgb

DRAWN_SIZE = (640, 480)  # width, height: what most cameras give unless asked for more
_LEAST_RUNS = 5
_DECODED = 16  # of many pictures, so many are held in memory; the stream takes them all
_WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long one thing takes again and again: milliseconds, and how often it was measured."""

    p50: float
    p90: float
    p99: float
    mean: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Pictures a second with so many threads for one run of the graphs.

    Attributes:
        threads: for one run of the graphs.
        by_batch_size: both graphs on pixels that are resized already.
        stream: `Classifier.stream`, from files.
    """

    threads: int
    by_batch_size: dict[int, float]
    stream: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What `run_benchmark` measured.

    Attributes:
        provider: the execution provider.
        threads: for one run of the graphs, in `latency`.
        pictures: how many pictures take turns: in the stream all, elsewhere 16 of them at most.
        load_ms: to open the bundle, milliseconds; the libraries are loaded already.
        latency: of one picture: `file` and `array` end to end, then the parts of it.
        throughput: one entry for each number of threads.
    """

    provider: str
    threads: int
    pictures: int
    load_ms: float
    latency: dict[str, Latency]
    throughput: tuple[Throughput, ...] = field(default=())


def run_benchmark(
    bundle: Path,
    pictures: Sequence[Path] = (),
    *,
    device: Device | None = None,
    allow_fallback: bool = False,
    batch_sizes: Sequence[int] = (1, 8, 32),
    threads: Sequence[int] = (),
    seconds: float = 1.0,
    public_key: Path | None = None,
) -> Benchmark:
    """Measure a bundle.

    Args:
        bundle: its folder or archive.
        pictures: image files that take turns; by default one that is drawn.
        device: as for `Classifier`, and so is `allow_fallback`.
        allow_fallback: take the CPU where the device cannot be had.
        batch_sizes: for the throughput.
        threads: for one run of the graphs; the latency is that with the most of them. By default
            1 and what `Classifier` takes.
        seconds: how long each measurement takes, at least.
        public_key: see `Classifier`.

    Raises:
        BundleError, DeviceError: the bundle cannot be opened.
        ImageError: one of the pictures cannot be read.
        OutputError: none is given, and none can be drawn in the folder for temporary files.
    """
    counts = sorted(set(threads)) or sorted({1, chosen_threads(None)})
    opening = partial(
        Classifier, bundle, device=device, allow_fallback=allow_fallback, public_key=public_key
    )
    with _at_least_one(pictures) as files:
        opened = time.perf_counter()
        with opening(threads=counts[-1]) as classifier:
            load = time.perf_counter() - opened
            provider = classifier.provider
            latency = _latencies(classifier, _sample(files), seconds)
        throughput = []
        for count in counts:
            with opening(threads=count) as classifier:
                throughput.append(_throughput(classifier, files, count, batch_sizes, seconds))
        return Benchmark(
            provider=provider,
            threads=counts[-1],
            pictures=len(files),
            load_ms=1000 * load,
            latency=latency,
            throughput=tuple(throughput),
        )


def _latencies(classifier: Classifier, files: Sequence[Path], seconds: float) -> dict[str, Latency]:
    geometry = classifier.manifest.preprocessing.geometry
    arrays = [to_rgb(file) for file in files]
    pixels = [load_image(array, geometry)[None] for array in arrays]
    bottlenecks = [classifier.bottlenecks(batch) for batch in pixels]

    parts: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
        "file": (classifier.predict, files),
        "array": (classifier.predict, arrays),
        "decode and resize": (lambda file: load_image(file, geometry), files),
        "resize": (lambda array: load_image(array, geometry), arrays),
        "base": (classifier.bottlenecks, pixels),
        "head": (classifier.probabilities, bottlenecks),
    }
    return {name: _latency(work, items, seconds) for name, (work, items) in parts.items()}


def _latency(work: Callable[[Any], Any], items: Sequence[Any], seconds: float) -> Latency:
    turns = itertools.cycle(items)
    for _ in range(_WARM_UP):
        work(next(turns))
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < _LEAST_RUNS or time.perf_counter() < end:
        item = next(turns)
        started = time.perf_counter()
        work(item)
        taken.append(1000 * (time.perf_counter() - started))
    p50, p90, p99 = (float(value) for value in np.percentile(taken, (50, 90, 99)))
    return Latency(p50=p50, p90=p90, p99=p99, mean=float(np.mean(taken)), runs=len(taken))


def _throughput(
    classifier: Classifier,
    files: Sequence[Path],
    threads: int,
    batch_sizes: Iterable[int],
    seconds: float,
) -> Throughput:
    geometry = classifier.manifest.preprocessing.geometry
    pixels = [load_image(file, geometry) for file in _sample(files)]
    rates = {}
    for size in sorted(set(batch_sizes)):
        batch = np.stack([pixels[number % len(pixels)] for number in range(size)])
        rates[size] = 1000 * size / _latency(classifier.run, [batch], seconds).mean
    answers = classifier.stream(itertools.cycle(files))
    with_stream = _latency(lambda _: next(answers), [None], seconds).mean
    answers.close()
    return Throughput(threads=threads, by_batch_size=rates, stream=1000 / with_stream)


def _sample(files: Sequence[Path]) -> Sequence[Path]:
    return files[:: math.ceil(len(files) / _DECODED)]


@contextmanager
def _at_least_one(pictures: Sequence[Path]) -> Iterator[Sequence[Path]]:
    if pictures:
        yield pictures
        return
    with ExitStack() as closing:
        try:
            folder = closing.enter_context(TemporaryDirectory(prefix="fic-bench-"))
            file = Path(folder) / "drawn.jpg"
            file.write_bytes(_drawn_photo())
        except OSError as error:
            raise OutputError(
                f"no picture can be drawn ({error.strerror or error}); name a picture, or set "
                "TMPDIR to a folder that can be written"
            ) from error
        yield [file]


def _drawn_photo() -> bytes:
    """Return a JPEG about as hard to decode as a photo of its size: soft shapes and some noise."""
    import cv2

    width, height = DRAWN_SIZE
    random = np.random.default_rng(0)
    shapes = random.integers(0, 256, (height // 40, width // 40, 3)).astype(np.float32)
    soft = cv2.resize(shapes, DRAWN_SIZE, interpolation=cv2.INTER_CUBIC)
    noisy = soft + random.normal(0, 6, soft.shape)
    picture = np.clip(noisy, 0, 255).astype(np.uint8)
    encoded: bytes = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return encoded
