"""`fic-runtime bench`."""

import argparse
import json
from typing import TYPE_CHECKING

from .options import (
    add_bundle,
    add_device_alone,
    named_pictures,
    positive,
    seconds,
    several,
    thread_count,
)

if TYPE_CHECKING:
    from ..diagnostics.benchmark import Benchmark
    from .options import Commands

_PARTS = {
    "file": "from a file",
    "array": "from an array",
    "decode and resize": "  decode and resize a file",
    "resize": "  resize an array",
    "base": "  base",
    "head": "  head",
}


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure the speed of a bundle on this machine",
        description="Measure the latency of one picture, in total and by step, and the throughput "
        "by batch size and threads. Run it on an idle machine.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="*",
        help="image files or folders (default: a synthetic photo of 640x480)",
    )
    parser.add_argument(
        "--batch-sizes",
        type=several(positive),
        default=[1, 8, 32],
        metavar="N,N",
        help="batch sizes of the throughput (default: 1,8,32)",
    )
    parser.add_argument(
        "--threads",
        type=several(thread_count),
        default=[],
        metavar="N,N",
        help="threads per prediction; the latency uses the largest (default: 1, and $FIC_THREADS "
        "or all available processors)",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=1.0,
        metavar="S",
        help="least duration of each measurement, in seconds (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_device_alone(parser)


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..diagnostics.benchmark import run_benchmark
    from ..diagnostics.doctor import examine

    result = run_benchmark(
        options.bundle,
        list(named_pictures(options.images)),
        device=options.device,
        allow_fallback=options.allow_fallback,
        batch_sizes=options.batch_sizes,
        threads=options.threads,
        seconds=options.seconds,
        public_key=options.public_key,
    )
    if options.json:
        found = examine()
        machine = {"processor": found.processor, "versions": found.versions}
        print(json.dumps({**machine, "drawn": not options.images, **asdict(result)}))
        return 0
    _print(result, drawn=not options.images)
    return 0


def _print(result: "Benchmark", *, drawn: bool) -> None:
    from ..diagnostics.benchmark import DRAWN_SIZE

    what = "a drawn photo of {}x{}".format(*DRAWN_SIZE) if drawn else f"{result.pictures} pictures"
    print(f"{what} on {result.provider}; bundle opened in {result.load_ms:.0f} ms\n")
    print(f"{f'one picture, {_threads(result.threads)}':<28}   p50 ms   p90 ms   p99 ms     runs")
    for part, name in _PARTS.items():
        found = result.latency[part]
        print(f"{name:<28}{found.p50:9.2f}{found.p90:9.2f}{found.p99:9.2f}{found.runs:9}")
    sizes = list(result.throughput[0].by_batch_size)
    heads = "".join(f"{f'batch {size}':>11}" for size in sizes)
    print(f"\n{'pictures a second':<18}{heads}{'stream of files':>18}")
    for row in result.throughput:
        rates = "".join(f"{row.by_batch_size[size]:11.1f}" for size in sizes)
        print(f"{_threads(row.threads):<18}{rates}{row.stream:18.1f}")


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"
