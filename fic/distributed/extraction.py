"""The driver's part: pictures to workers in chunks, and what becomes of them when workers die."""

import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bases.opening import AnyBase
from ..bottlenecks.single_reading import Outcome, Unread
from ..cache.keys import Keys
from ..cache.locks import new_temporary
from ..cache.remote import open_cache
from ..data import Source
from ..data.dataset import Skipped
from ..data.remote import RemotePath, redacted_text
from ..errors import ClusterError, FicError, one_line
from ..options import CacheOptions
from ..progress import Progress
from .cluster import (
    LOCAL,
    Slot,
    connected,
    free_slots,
    head_answers,
    import_ray,
    start_worker,
    what_it_lacks,
    why_it_died,
)
from .worker import Probe, Work, Worker, package_versions

# A chunk is a shard, and what a death costs; small ones spread better over few pictures.
_MOST_IN_CHUNK = 512
_CHUNKS_FOR_EACH = 4
_IN_FLIGHT = 2  # of each worker, at once: so it waits for neither the driver nor its last batch
_DEATHS = 3  # of workers at the same pictures, or on one node, that are not chance any more
_PARTS = 8  # of a chunk at which a worker died
_START_SECONDS = 90.0
"""How long to wait for the first worker, and for another when the last one is gone."""

_STRAGGLER_SECONDS = 30.0
_TRIED = 8  # pictures, to find one that each node has to see
_LOOK_SECONDS = 2.0
_HEAD_SECONDS = 30.0
"""How long the head may be away; after 60 s Ray ends the driver, where it stands."""


class RayExtraction:
    """Extraction by the nodes of a Ray cluster.

    Args:
        base: the base, which is converted here and sent to the nodes once.
        options: of the cache; `ray` is the address.
        source: where the pictures are.

    Raises:
        ClusterError: Ray is not installed, or the options need what only one machine has.
    """

    def __init__(self, base: AnyBase, options: CacheOptions, source: Source) -> None:
        import_ray()
        if options.engine == "keras":
            raise ClusterError(
                "--ray runs the exported graph of the base; leave out --engine keras, or --ray"
            )
        self._base = base
        self._options = options
        self.engine = "onnx"

    def run(
        self, pictures: Sequence[Unread], total: int, progress: Progress
    ) -> Generator[Outcome, None, None]:
        """Yield what came of the pictures, chunk by chunk, each committed; see `Extraction`.

        Raises:
            ClusterError: the cluster cannot be used, or its workers died.
        """
        options, base = self._options, self._base
        directory = options.bottleneck_dir.absolute()
        with open_cache(directory, base.fingerprint) as cache:
            known = cache.keys()
        graph = base.graph_file().read_bytes()
        absolute, names = _absolute(pictures)
        work = Work(
            directory=directory,
            fingerprint=base.fingerprint,
            compression=options.compression,
            geometry=base.preprocessing.geometry,
            batch_size=options.batch_size,
        )
        address = options.ray or LOCAL
        with (
            connected(address, len(graph) + known.nbytes) as ray,
            _probe(directory, absolute) as probe,
            _crew(ray, work, graph, known, probe) as crew,
        ):
            nodes = len({slot.node for slot in crew.slots})
            cpus = sum(slot.cpus for slot in crew.slots)
            crowd = f"{nodes} node{'s' if nodes > 1 else ''}"
            power = f"{cpus} processor{'s' if cpus > 1 else ''}"
            progress.note(f"engine onnx: {crowd} of the cluster with {power}")
            title = f"extracting on {crowd}"
            progress.start(title, total, unit="image", done=total - len(pictures))
            try:
                for outcome in crew.outcomes(absolute, progress):
                    skipped = len(outcome.skipped)
                    progress.advance(_count(outcome), skipped)
                    yield _renamed(outcome, names)
            except ConnectionError as error:  # of Ray's client
                raise ClusterError(_gone("the connection to the cluster is lost")) from error
            finally:
                progress.finish()


@dataclass(frozen=True)
class _Place:
    """A worker and where it is."""

    slot: Slot
    actor: Any


@dataclass(frozen=True)
class _Chunk:
    """Pictures that one worker gets at once, and how many workers have died at them."""

    pictures: Sequence[Unread]
    deaths: int = 0

    def broken(self) -> Iterator["_Chunk"]:
        """Yield the chunk in parts, after one more death: few pictures are found that kill."""
        size = -(-len(self.pictures) // _PARTS)
        for start in range(0, len(self.pictures), size):
            yield _Chunk(self.pictures[start : start + size], self.deaths + 1)


class _Crew:
    """The workers, and the chunks that they have."""

    def __init__(self, ray: Any, arguments: tuple[Any, ...], probe: Probe) -> None:
        self._ray = ray
        self._arguments = arguments
        self._probe = probe
        self._places: list[_Place] = []
        self._flying: dict[Any, tuple[_Place, _Chunk]] = {}
        self._starting: dict[Any, _Place] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def slots(self) -> list[Slot]:
        """Where the workers are."""
        return [place.slot for place in self._places]

    def start(self) -> None:
        """Start a worker on each node, and let each find out whether it can work.

        Raises:
            ClusterError: no node has a free processor, or one lacks what the work needs.
        """
        self._start_where_free()
        if not self._starting:
            total = int(self._ray.cluster_resources().get("CPU", 0))
            raise ClusterError(
                f"the cluster has no free processor ({total} in all, each taken by other work); "
                "wait for it, or add nodes"
            )
        started = time.monotonic()
        while self._starting or not self._places:
            # Those that come later are welcome then.
            patience = _STRAGGLER_SECONDS if self._places else _START_SECONDS
            if time.monotonic() - started > patience:
                break
            for problem in self._welcome(timeout=1.0):
                raise ClusterError(problem)
            self._start_where_free()
        if not self._places:
            raise ClusterError(
                f"no node of the cluster started a worker within {_START_SECONDS:.0f} s; look at "
                "`ray status`"
            )

    def outcomes(self, pictures: Sequence[Unread], progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each chunk; those of a worker that dies go to the others.

        Raises:
            ClusterError: all workers died, or always at the same pictures.
        """
        waiting = deque(_chunks(pictures, len(self._places)))
        looked = alone = answered = time.monotonic()
        while waiting or self._flying:
            self._hand_out(waiting)
            if self._places:
                alone = time.monotonic()
            if time.monotonic() - alone > _START_SECONDS:
                raise ClusterError(_gone("all workers of the cluster are gone"))
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                if head_answers(self._ray):
                    self._start_where_free()
                    answered = looked
                elif looked - answered > _HEAD_SECONDS:
                    raise ClusterError(_gone("the head of the cluster is gone"))
            for problem in self._welcome(timeout=0.0 if self._flying else 0.5):
                progress.note(f"{problem}; going on without it")
            if not self._flying:
                continue
            ready, _ = self._ray.wait(list(self._flying), num_returns=1, timeout=1.0)
            for ref in ready:
                place, chunk = self._flying.pop(ref)
                try:
                    yield self._ray.get(ref)
                except self._ray.exceptions.RayTaskError as error:
                    raise _cause(error, place) from None
                except self._ray.exceptions.RayError:  # the worker died, or its answer is lost
                    self._bury(place, progress)
                    if chunk.deaths + 1 >= _DEATHS:
                        raise ClusterError(_fatal(chunk.pictures)) from None
                    waiting.extendleft(chunk.broken())

    def stop(self) -> None:
        """End all workers."""
        with suppress(ConnectionError):
            for place in (*self._places, *self._starting.values()):
                self._ray.kill(place.actor)

    def _hand_out(self, waiting: deque[_Chunk]) -> None:
        for _ in range(_IN_FLIGHT):
            for place in self._places:
                if waiting and self._takes(place, waiting[0]):
                    chunk = waiting.popleft()
                    self._flying[place.actor.extract.remote(chunk.pictures)] = place, chunk

    def _takes(self, place: _Place, chunk: _Chunk) -> bool:
        """Tell whether a worker is to have one more chunk; one that may kill comes alone."""
        held = [other for at, other in self._flying.values() if at is place]
        if chunk.deaths or any(other.deaths for other in held):
            return not held
        return len(held) < _IN_FLIGHT

    def _start_where_free(self) -> None:
        """Start workers on nodes that have none: new ones, and those whose worker died."""
        taken = Counter(place.slot.node for place in (*self._places, *self._starting.values()))
        for slot in free_slots(self._ray):
            if taken[slot.node] or self._deaths[slot.node] >= _DEATHS:
                continue
            actor = start_worker(self._ray, slot, Worker, self._arguments, calls=_IN_FLIGHT)
            self._starting[actor.problem.remote(self._probe)] = _Place(slot, actor)

    def _welcome(self, timeout: float) -> list[str]:
        """Take in workers that have started; return what nodes lack that cannot work."""
        if not self._starting:
            time.sleep(timeout)
            return []
        ready, _ = self._ray.wait(
            list(self._starting), num_returns=len(self._starting), timeout=timeout
        )
        problems = []
        for ref in ready:
            place = self._starting.pop(ref)
            try:
                problem = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                self._ray.kill(place.actor)
                self._deaths[place.slot.node] += 1
                problem = what_it_lacks(error)
                if problem is None and self._deaths[place.slot.node] < _DEATHS:
                    continue  # killed, or its node goes: if that stays, another is started there
                problem = problem or why_it_died(error)
            if problem is None:
                self._places.append(place)
                continue
            self._deaths[place.slot.node] = _DEATHS
            problems.append(f"node {place.slot.host} of the cluster {problem}")
        return problems

    def _bury(self, dead: _Place, progress: Progress) -> None:
        if dead not in self._places:  # known already, by another of its chunks
            return
        self._places.remove(dead)
        self._ray.kill(dead.actor)
        self._deaths[dead.slot.node] += 1
        progress.note(
            f"a worker on {dead.slot.host} died; its pictures go to others "
            f"({len(self._places)} left)"
        )


@contextmanager
def _crew(ray: Any, work: Work, graph: bytes, known: Keys, probe: Probe) -> Iterator[_Crew]:
    # Through the object store: each node gets graph and keys once.
    crew = _Crew(ray, (work, ray.put(graph), ray.put(known)), probe)
    try:
        crew.start()
        yield crew
    finally:
        crew.stop()


@contextmanager
def _probe(directory: Path, pictures: Sequence[Unread]) -> Iterator[Probe]:
    """Leave a file in the cache directory that each node has to see, while it is looked for."""
    picture = _seen(pictures)
    versions = package_versions()
    if isinstance(directory, RemotePath):
        yield Probe(versions=versions, file=None, picture=picture)
        return
    with new_temporary(directory) as file:
        content = os.urandom(16)
        file.write(content)
        name = Path(os.fsdecode(file.name))
        yield Probe(versions=versions, file=(name, content), picture=picture)


def _seen(pictures: Sequence[Unread]) -> tuple[Path, int] | None:
    """Return a picture that is there, with its size; None where the first ones are all gone."""
    for picture in pictures[:_TRIED]:
        with suppress(OSError):
            return picture.path, picture.path.stat().st_size
    return None


def _absolute(pictures: Sequence[Unread]) -> tuple[list[Unread], Mapping[Path, Path]]:
    """Return the pictures as every folder finds them, and what the user calls those."""
    absolute = [picture._replace(path=picture.path.absolute()) for picture in pictures]
    names = {
        there.path: here.path
        for there, here in zip(absolute, pictures, strict=True)
        if there.path != here.path
    }
    return absolute, names


def _renamed(outcome: Outcome, names: Mapping[Path, Path]) -> Outcome:
    if not names:
        return outcome
    return replace(
        outcome,
        digests={names.get(path, path): digest for path, digest in outcome.digests.items()},
        skipped=[
            Skipped(name, picture.reason.replace(str(picture.path), str(name)))
            for picture in outcome.skipped
            if (name := names.get(picture.path, picture.path))
        ],
    )


def _chunks(pictures: Sequence[Unread], workers: int) -> list[_Chunk]:
    even = -(-len(pictures) // (_CHUNKS_FOR_EACH * workers))
    size = max(1, min(_MOST_IN_CHUNK, even))
    return [_Chunk(pictures[start : start + size]) for start in range(0, len(pictures), size)]


def _count(outcome: Outcome) -> int:
    left_out = {picture.path for picture in outcome.skipped}
    return sum(path not in left_out for path in outcome.digests)


def _cause(error: Any, place: _Place) -> FicError:
    if isinstance(error.cause, FicError):
        return error.cause
    told = redacted_text(one_line(error.cause))
    return ClusterError(
        f"a worker on {place.slot.host} failed ({type(error.cause).__name__}: {told[:200]}); look "
        "at `ray logs`"
    )


def _gone(what: str) -> str:
    return (
        f"{what}; what was committed is in the cache, so start a cluster and run the command again"
    )


def _fatal(pictures: Sequence[Unread]) -> str:
    which = (
        f"the picture {pictures[0].path}"
        if len(pictures) == 1
        else f"the {len(pictures)} pictures from {pictures[0].path} to {pictures[-1].path}"
    )
    return (
        f"{_DEATHS} workers died at {which}; leave out what is there, or see in `ray logs` whether "
        "their memory ran out"
    )
