"""Extraction on Ray: what it costs, what it gains, and what the driver needs for many names.

    python benchmarks/distributed.py machine PHOTOS [--images 600] [--rounds 3]
    python benchmarks/distributed.py nodes PHOTOS [--images 600] [--rounds 3]
    python benchmarks/distributed.py ray-data PHOTOS [--images 600] [--rounds 3]
    python benchmarks/distributed.py names [--number 100000]

`machine` compares Ray on this machine with the same work in one process, without what happens once
(cluster, imports, graph): extraction alone, in turn. `nodes` compares two nodes of one processor
with one such node. `ray-data` does the same work with Ray Data instead of the actors of fic (needs
`pip install "ray[data]"`). `names` lists so many pictures of a store that answers at once, and
hands them out to workers that have their digests at once.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measuring import in_turn, median_ratio, some_photos, spread

from fic.bases.frozen import FrozenBase
from fic.bottlenecks.engines import OnnxEngine
from fic.bottlenecks.single_reading import FirstReading, Outcome, Unread, ViewRule, extracted
from fic.cache import BottleneckCache
from fic.data import Source, read_pictures
from fic.data.remote import RemotePath
from fic.digests import digest_bytes
from fic.distributed import RayExtraction
from fic.options import BaseOptions, CacheOptions
from fic.progress import Progress, Silence
from fic_runtime.devices import usable_cpus

_STORE = 200 << 20  # bytes of the object store of a node


class _Clock(Silence):
    """Measures from the start of the work itself, when workers are ready, to its end."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        self.seconds = -time.perf_counter()

    def finish(self) -> None:
        self.seconds += time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("machine", "nodes", "ray-data"):
        command = commands.add_parser(name)
        command.add_argument("photos", type=Path)
        command.add_argument("--base", default=BaseOptions.base_model)
        command.add_argument("--images", type=int, default=600)
        command.add_argument("--rounds", type=int, default=3)
    commands.add_parser("names").add_argument("--number", type=int, default=100_000)
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if options.command == "names":
        names(options.number)
        return
    work = Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    base = FrozenBase(BaseOptions(base_model=options.base, weights="none"), work)
    base.graph_file()
    files = some_photos(options.photos, options.images)
    pictures = [Unread(file, None, ViewRule()) for file in files]
    for file in files:
        file.read_bytes()  # from here on they come from memory
    measure = {"machine": machine, "nodes": nodes, "ray-data": ray_data}[options.command]
    measure(base, pictures, options.rounds)


def machine(base: FrozenBase, pictures: Sequence[Unread], rounds: int) -> None:
    with a_cluster(usable_cpus()) as address:
        figures = in_turn(
            rounds,
            plain=lambda: rate(in_one_process(base, pictures, usable_cpus()), pictures),
            ray=lambda: rate(on_ray(base, pictures, address), pictures),
        )
    report(figures, "ray", "plain")
    seconds = [
        1000 / ray - 1000 / plain
        for ray, plain in zip(figures["ray"], figures["plain"], strict=True)
    ]
    print(f"overhead           {spread(seconds)} s per 1000 pictures")


def nodes(base: FrozenBase, pictures: Sequence[Unread], rounds: int) -> None:
    def measured(*cpus: int) -> Callable[[], float]:
        def measure() -> float:
            with a_cluster(*cpus) as address:
                return rate(on_ray(base, pictures, address), pictures)

        return measure

    report(in_turn(rounds, one=measured(1), two=measured(1, 1)), "two", "one")


def ray_data(base: FrozenBase, pictures: Sequence[Unread], rounds: int) -> None:
    with a_cluster(usable_cpus()) as address:
        figures = in_turn(
            rounds,
            core=lambda: rate(on_ray(base, pictures, address), pictures),
            data=lambda: rate(on_ray_data(base, pictures, address), pictures),
        )
    report(figures, "data", "core")


def names(number: int) -> None:
    """List `number` pictures, hand them out, and remember their digests."""
    import fsspec

    fsspec.register_implementation("names", _names_of(number), clobber=True)
    work = Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    cache = CacheOptions(bottleneck_dir=work)
    base = FrozenBase(BaseOptions(base_model="mobilenet_0.25", weights="none", image_size=32), work)
    base.fingerprint  # noqa: B018  # builds the base
    source = Source(data=RemotePath("names://bucket/photos"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for turn in ("cold", "warm"):
        lap = time.perf_counter()
        reading = FirstReading(base, source, cache, seed=None, extraction=_Nobody())
        read_pictures(
            source,
            memo=cache.memo,
            seed=None,
            on_error="skip",
            progress=Silence(),
            reader=reading,
        )
        print(f"{turn}: {time.perf_counter() - lap:.1f} s for {number} names", flush=True)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"both {time.perf_counter() - started:.1f} s, {(after - before) / 1024:.0f} MB more")


class _Nobody:
    """An extraction by workers that need no time."""

    engine = "none"

    def run(
        self, pictures: Sequence[Unread], total: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        for start in range(0, len(pictures), 512):
            chunk = pictures[start : start + 512]
            yield Outcome(
                digests={each.path: digest_bytes(str(each.path).encode()) for each in chunk}
            )


def _names_of(number: int) -> type:
    from fsspec.spec import AbstractFileSystem

    class Names(AbstractFileSystem):  # type: ignore[misc] # without types
        protocol = "names"

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
            folders = ("bucket/photos/0", "bucket/photos/1")
            return [{"name": name, "type": "directory", "size": 0} for name in folders]

        def find(self, path: str, **_: Any) -> dict[str, dict[str, Any]]:
            start = self._strip_protocol(path)
            return {
                f"{start}/{index:08}.jpg": {
                    "type": "file",
                    "size": 100_000,
                    "ETag": f'"{index:032x}"',
                }
                for index in range(number // 2)
            }

    return Names


@contextmanager
def a_cluster(*cpus: int) -> Iterator[str]:
    """Start nodes with so many processors on this machine, and return the cluster's address."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        first = 0
        for count in cpus:
            node = cluster.add_node(num_cpus=count, object_store_memory=_STORE)
            _pin(node, range(first, first + count))
            first += count
        cluster.wait_for_nodes()
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def _pin(node: Any, cores: range) -> None:
    """Give a node its own cores: to Ray a number of processors is only a number."""
    raylet = node.all_processes["raylet"][0].process.pid
    for thread in Path(f"/proc/{raylet}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
        for child in (thread / "children").read_text().split():
            for grandchild in Path(f"/proc/{child}/task").iterdir():
                os.sched_setaffinity(int(grandchild.name), cores)


def in_one_process(base: FrozenBase, pictures: Sequence[Unread], cpus: int) -> float:
    engine = OnnxEngine(base.graph_file(), cpus=cpus)
    with (
        tempfile.TemporaryDirectory() as folder,
        BottleneckCache(folder, base.fingerprint) as cache,
    ):
        started = time.perf_counter()
        for _ in extracted(pictures, cache, engine, base.preprocessing.geometry, 16):
            pass
        return time.perf_counter() - started


def on_ray(base: FrozenBase, pictures: Sequence[Unread], address: str) -> float:
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        options = CacheOptions(bottleneck_dir=Path(folder), ray=address)
        for _ in RayExtraction(base, options, Source(data=Path(folder))).run(
            pictures, len(pictures), clock
        ):
            pass
    return clock.seconds


class _Mapped:
    """The same work as an actor of Ray Data, which tells when it was ready."""

    def __init__(self, graph: bytes, geometry: Any, folder: str, fingerprint: Any) -> None:
        self._engine = OnnxEngine(graph, cpus=usable_cpus())
        self._geometry = geometry
        self._cache = BottleneckCache(folder, fingerprint)
        self._ready = time.time()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pictures = [Unread(Path(path), None, ViewRule()) for path in batch["path"].tolist()]
        for _ in extracted(pictures, self._cache, self._engine, self._geometry, 16):
            pass
        return {"ready": np.full(len(pictures), self._ready)}


def on_ray_data(base: FrozenBase, pictures: Sequence[Unread], address: str) -> float:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        with tempfile.TemporaryDirectory() as folder:
            graph, geometry = base.graph_file().read_bytes(), base.preprocessing.geometry
            paths = [str(picture.path) for picture in pictures]
            mapped = ray.data.from_items([{"path": path} for path in paths]).map_batches(
                _Mapped,
                fn_constructor_args=(graph, geometry, folder, base.fingerprint),
                batch_size=-(-len(paths) // 4),
                # All processors: nothing is read by tasks of Ray Data here, which would need one.
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=usable_cpus(),
            )
            ready = [batch["ready"][0] for batch in mapped.iter_batches(batch_size=None)]
            return time.time() - min(ready)
    finally:
        ray.shutdown()


def rate(seconds: float, pictures: Sequence[Unread]) -> float:
    return len(pictures) / seconds


def report(figures: dict[str, list[float]], above: str, below: str) -> None:
    for name, values in figures.items():
        print(f"{name:18} {spread(values)} photos/s")
    print(f"{above} / {below:12} {median_ratio(figures[above], figures[below]):.3f}")


if __name__ == "__main__":
    main()
