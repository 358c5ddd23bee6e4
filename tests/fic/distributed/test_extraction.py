"""Extraction by a cluster of Ray, with nodes on this machine that come, die and lack things."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fic
from fic.bases.frozen import FrozenBase
from fic.bottlenecks import fill_cache
from fic.bottlenecks.single_reading import Outcome, Unread
from fic.cache import BottleneckCache
from fic.data import Source
from fic.distributed import RayExtraction, cluster, extraction
from fic.distributed.worker import Probe, Work, Worker, package_versions
from fic.errors import ClusterError, DataError
from fic.options import BaseOptions, CacheOptions
from tests.conftest import MakePhotos
from tests.fic.conftest import Recorder

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of which it has many
_STORE = 100 << 20


def contents(cache: CacheOptions, base: BaseOptions) -> dict[bytes, bytes]:
    """Return the rows of a cache by their keys."""
    with BottleneckCache(cache.bottleneck_dir, fingerprint_of(cache, base)) as opened:
        keys = np.unique(opened.keys())
        rows = opened.read(opened.find(keys))
        return {key.tobytes(): row.tobytes() for key, row in zip(keys, rows, strict=True)}


def fingerprint_of(cache: CacheOptions, base: BaseOptions) -> Any:
    return FrozenBase(base, cache.bottleneck_dir).fingerprint


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a cluster whose head has no processor for work."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    # A busy machine starts workers slowly, and these tests are not about that.
    monkeypatch.setattr(extraction, "_STRAGGLER_SECONDS", 300.0)
    monkeypatch.setattr(extraction, "_START_SECONDS", 300.0)
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield started
    finally:
        started.shutdown()


class Interfering(Recorder):
    """A progress that does something when the first pictures are done."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action: Callable[[], object] | None = action

    def advance(self, count: int, skipped: int = 0) -> None:
        super().advance(count, skipped)
        if self._action is not None:
            action, self._action = self._action, None
            action()


@pytest.fixture
def many(tmp_path: Path, make_photos: MakePhotos) -> Path:
    return make_photos(tmp_path / "many", 60)


def on(cache: CacheOptions, address: str, folder: Path) -> CacheOptions:
    """Return a copy of a cache, for a cluster."""
    shutil.copytree(cache.bottleneck_dir, folder)
    return replace(cache, bottleneck_dir=folder, ray=address)


def workers_of(node: Any) -> list[int]:
    """Return the processes of the actors on a node of a cluster on this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    listed = subprocess.run(
        ["ps", "--ppid", str(raylet), "-o", "pid=,args="], capture_output=True, text=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "ray::Worker" in line]


@pytest.mark.slow
def test_a_node_and_a_worker_that_die_cost_time_and_nothing_else(
    nodes: Any, many: Path, base: BaseOptions, empty: CacheOptions, tmp_path: Path
) -> None:
    added = [nodes.add_node(num_cpus=1, object_store_memory=_STORE) for _ in range(3)]
    nodes.wait_for_nodes()
    (many / "red/broken.jpg").write_bytes(b"no picture")
    shared = on(empty, nodes.address, tmp_path / "shared")
    plain = fill_cache(Source(data=many), base=base, cache=replace(empty, views=2))

    def interfere() -> None:
        doomed = [pid for node in added[:2] for pid in workers_of(node)]
        nodes.remove_node(added[0], allow_graceful=False)
        for pid in doomed:  # those of the lost node would work on until they miss it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    heard = Interfering(interfere)
    use = fill_cache(
        Source(data=many),
        base=base,
        cache=replace(shared, views=2),
        progress=heard,
        extraction=RayExtraction,
    )
    assert [skipped.path for skipped in use.skipped] == [many / "red/broken.jpg"]
    assert use.skipped == plain.skipped
    assert contents(shared, base) == contents(empty, base)
    assert len(contents(shared, base)) == 2 * 180
    assert heard.steps[-1]["title"] == "extracting on 3 nodes"
    assert (heard.steps[-1]["done"], heard.steps[-1]["skipped"]) == (180, 1)
    assert sum("died" in note for note in heard.notes) == 2
    # What was in flight may be there twice, and no more.
    with BottleneckCache(shared.bottleneck_dir, fingerprint_of(shared, base)) as opened:
        assert len(opened.keys()) - len(opened) <= 2 * 2 * 2 * -(-180 // 12)
    again = fill_cache(
        Source(data=many), base=base, cache=replace(shared, views=2), extraction=RayExtraction
    )
    assert (again.extracted, again.hits) == (0, 360)


_INTERRUPTED = """
import os, signal, sys
from fic.cli import main, terminal

number = signal.Signals[sys.argv.pop(1)]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off
advance = terminal.TerminalProgress.advance

def interrupting(self, count, skipped=0):
    advance(self, count, skipped)
    os.kill(os.getpid(), number)

terminal.TerminalProgress.advance = interrupting
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signal_name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_driver_goes_on_where_it_was(
    nodes: Any,
    many: Path,
    base: BaseOptions,
    empty: CacheOptions,
    tmp_path: Path,
    signal_name: str,
    code: int,
) -> None:
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    nodes.wait_for_nodes()
    shared = on(empty, nodes.address, tmp_path / "shared")
    command = [sys.executable, "-c", _INTERRUPTED, signal_name, "extract", "--data", many]
    command += ["--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32"]
    command += ["--ray", nodes.address, "--bottleneck-dir", shared.bottleneck_dir]
    driver = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=300)
    assert driver.returncode == code, driver.stderr
    assert "interrupted; what was extracted so far is in the cache" in driver.stderr
    assert "Traceback" not in driver.stderr
    assert len(contents(shared, base)) >= 45
    use = fill_cache(Source(data=many), base=base, cache=shared, extraction=RayExtraction)
    assert use.hits + use.extracted == 180
    assert use.hits >= 45
    assert len(contents(shared, base)) == 180


@pytest.mark.slow
def test_a_cluster_without_a_free_processor_is_told_and_not_waited_for(
    nodes: Any, many: Path, base: BaseOptions, empty: CacheOptions
) -> None:
    busy = replace(empty, ray=nodes.address)
    with pytest.raises(ClusterError, match="no free processor"):
        fill_cache(Source(data=many), base=base, cache=busy, extraction=RayExtraction)


@pytest.mark.slow
def test_one_picture_that_cannot_be_read_stops_everything_if_wanted(
    nodes: Any, many: Path, base: BaseOptions, empty: CacheOptions
) -> None:
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    nodes.wait_for_nodes()
    (many / "blue/broken.jpg").write_bytes(b"no picture")
    strict = replace(empty, ray=nodes.address, on_error="fail")
    with pytest.raises(DataError, match=r"broken\.jpg: not a picture"):
        fill_cache(Source(data=many), base=base, cache=strict, extraction=RayExtraction)


class Deadly(Worker):
    """A worker that one picture kills, as one does that is too large for the memory."""

    def extract(self, pictures: Sequence[Unread]) -> Outcome:
        if any(picture.path.parts[-2:] == ("green", "6.jpg") for picture in pictures):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(pictures)


@pytest.mark.slow
def test_a_picture_that_kills_workers_is_found_among_few_and_named(
    nodes: Any,
    shared_photos: Path,
    base: BaseOptions,
    empty: CacheOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    nodes.wait_for_nodes()
    monkeypatch.setattr(extraction, "Worker", Deadly)
    monkeypatch.setattr(extraction, "_CHUNKS_FOR_EACH", 1)
    cache = on(empty, nodes.address, tmp_path / "shared")
    with pytest.raises(ClusterError, match=r"3 workers died at the picture .*green/6\.jpg;"):
        fill_cache(Source(data=shared_photos), base=base, cache=cache, extraction=RayExtraction)
    assert len(contents(cache, base)) < 24


@pytest.mark.slow
def test_a_node_that_comes_late_and_does_not_fit_is_left_out(
    nodes: Any,
    many: Path,
    base: BaseOptions,
    empty: CacheOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits, welcomed = tmp_path / "fits", extraction._Crew._welcome

    class Picky(Worker):
        """A worker that works where it is the first one."""

        def problem(self, probe: Probe) -> str | None:
            if fits.exists():
                return "has another numpy"
            fits.touch()
            return super().problem(probe)

        def extract(self, pictures: Sequence[Unread]) -> Outcome:
            while not (tmp_path / "told").exists():
                time.sleep(0.05)
            return super().extract(pictures)

    def telling(crew: Any, timeout: float) -> list[str]:
        if problems := welcomed(crew, timeout):
            (tmp_path / "told").touch()
        return problems

    monkeypatch.setattr(extraction, "Worker", Picky)
    monkeypatch.setattr(extraction._Crew, "_welcome", telling)
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    nodes.wait_for_nodes()
    started = extraction._Crew.start

    def and_another(crew: Any) -> None:
        started(crew)
        nodes.add_node(num_cpus=1, object_store_memory=_STORE)

    monkeypatch.setattr(extraction._Crew, "start", and_another)
    cache, heard = on(empty, nodes.address, tmp_path / "shared"), Recorder()
    use = fill_cache(
        Source(data=many), base=base, cache=cache, progress=heard, extraction=RayExtraction
    )
    assert use.extracted == 180
    (note,) = [note for note in heard.notes if "another numpy" in note]
    assert note.endswith("has another numpy; going on without it")


# In a process of its own, which Ray ends when it misses the head for a minute.
_HEADLESS = """
import os, signal, sys, time
from pathlib import Path

from fic.cli import main, terminal
from fic.distributed import extraction

processes = [int(process) for process in sys.argv.pop(1).split(",")]
dead = Path(sys.argv.pop(1))
extraction._HEAD_SECONDS, extraction._LOOK_SECONDS = 4.0, 0.1
advance = terminal.TerminalProgress.advance


class Endless(extraction.Worker):
    def extract(self, pictures):
        while dead.exists():
            time.sleep(1)
        return super().extract(pictures)


def killing(self, count, skipped=0):
    advance(self, count, skipped)
    while processes:
        dead.touch()
        os.kill(processes.pop(), signal.SIGKILL)


extraction.Worker = Endless
terminal.TerminalProgress.advance = killing
main()
"""


@pytest.mark.slow
def test_a_cluster_whose_head_dies_gives_one_sentence(
    nodes: Any, many: Path, base: BaseOptions, empty: CacheOptions, tmp_path: Path
) -> None:
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    nodes.wait_for_nodes()
    cache = on(empty, nodes.address, tmp_path / "shared")
    running = [each.process.pid for of in nodes.head_node.all_processes.values() for each in of]
    command = [sys.executable, "-c", _HEADLESS, ",".join(map(str, running)), tmp_path / "dead"]
    command += ["extract", "--data", many, "--base-model", "mobilenet_0.25", "--weights", "none"]
    command += ["--image-size", "32", "--ray", nodes.address]
    command += ["--bottleneck-dir", cache.bottleneck_dir]
    driver = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=300)
    assert "the head of the cluster is gone; what was committed" in driver.stderr
    assert "Traceback" not in driver.stderr
    assert driver.returncode == 1, driver.stderr
    assert contents(cache, base)


def test_the_other_commands_that_extract_ask_the_cluster_too(
    base: BaseOptions, empty: CacheOptions, shared_photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    cache, source = replace(empty, ray="ray://127.0.0.1:9"), Source(data=shared_photos)
    for command in (
        lambda: fic.audit(source, base=base, cache=cache),
        lambda: fic.train(source, out=tmp_path / "run", base=base, cache=cache),
    ):
        with pytest.raises(ClusterError, match="no cluster answers there"):
            command()


@pytest.fixture
def worker(empty: CacheOptions, base: BaseOptions) -> Worker:
    frozen = FrozenBase(base, empty.bottleneck_dir)
    work = Work(
        directory=empty.bottleneck_dir,
        fingerprint=frozen.fingerprint,
        compression="none",
        geometry=frozen.preprocessing.geometry,
        batch_size=16,
    )
    return Worker(work, frozen.graph_file().read_bytes(), np.empty(0, "S20"), cpus=1)


@pytest.fixture
def probe(empty: CacheOptions, shared_photos: Path) -> Probe:
    file = empty.bottleneck_dir / "probe"
    file.write_bytes(b"content")
    picture = shared_photos / "red/0.jpg"
    return Probe(
        versions=package_versions(),
        file=(file, b"content"),
        picture=(picture, picture.stat().st_size),
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"versions": {"numpy": "0.1"}}, "has numpy .* and the driver 0.1; install the same"),
        ({"versions": {"gone": "1"}}, "has gone not at all and the driver 1"),
        ({"file": (Path("/nowhere/probe"), b"x")}, "does not see the driver's folder /nowhere"),
        ({"picture": (Path("/nowhere/1.jpg"), 3)}, "cannot read /nowhere/1.jpg"),
        ({"picture": None}, None),
        ({"picture": (Path(__file__), 3)}, "sees another .* than the driver"),
    ],
)
def test_a_node_finds_out_what_it_lacks_before_the_work_begins(
    worker: Worker, probe: Probe, change: dict[str, Any], says: str | None
) -> None:
    problem = worker.problem(replace(probe, **change))
    if says is None:
        assert problem is None
    else:
        assert problem is not None
        assert __import__("re").search(says, problem)


def test_a_worker_that_lacks_fic_is_told_by_the_package_that_it_lacks() -> None:
    error = RuntimeError("The actor died: ...\nModuleNotFoundError: No module named 'fic'")
    assert "lacks the package of 'fic'; install" in str(cluster.what_it_lacks(error))


def test_the_cluster_that_the_environment_names_is_knocked_at_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with (
        pytest.raises(ClusterError, match=r"--ray 127\.0\.0\.1:9: no cluster answers"),
        cluster.connected("auto", 0),
    ):
        raise AssertionError("there is no cluster")


def test_without_ray_the_extra_is_named(
    base: BaseOptions, empty: CacheOptions, shared_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r'pip install "fast-image-classification\[ray\]"'):
        fill_cache(
            Source(data=shared_photos),
            base=base,
            cache=replace(empty, ray="auto"),
            extraction=RayExtraction,
        )


@pytest.mark.parametrize(
    ("address", "engine", "says"),
    [
        ("nonsense", "auto", "--ray nonsense: is no address"),
        ("ray://127.0.0.1:9", "auto", "--ray ray://127.0.0.1:9: no cluster answers there"),
        ("ray://u:HUSH@127.0.0.1:9", "auto", r"--ray ray://\*\*\*@127.0.0.1:9: no cluster"),
        ("auto", "keras", "leave out --engine keras"),
    ],
)
def test_a_cluster_that_cannot_be_used_gives_one_sentence(
    base: BaseOptions,
    empty: CacheOptions,
    shared_photos: Path,
    address: str,
    engine: Any,
    says: str,
) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match=says) as caught:
        fill_cache(
            Source(data=shared_photos),
            base=base,
            cache=replace(empty, ray=address, engine=engine),
            extraction=RayExtraction,
        )
    assert "\n" not in str(caught.value)


# Ray's own errors, which come or not with what else runs on the machine.
@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (
            "local",
            Exception("The current node timed out during startup.\nIt has reasons."),
            r"--ray local: cannot be used .*timed out",
        ),
        (
            "auto",
            ConnectionError("Could not find any running Ray instance.\nPlease ..."),
            r"--ray auto: no cluster found; start one with `ray start --head`",
        ),
    ],
)
def test_a_cluster_that_does_not_answer_gives_one_sentence(
    address: str, error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")

    def failing(**_: Any) -> None:
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", failing)
    with (
        pytest.raises(ClusterError, match=says) as caught,
        cluster.connected(address, 0),
    ):
        raise AssertionError("there is no cluster")
    assert "\n" not in str(caught.value)


def test_versions_that_differ_are_told_with_both() -> None:
    error = RuntimeError(
        "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7"
    )
    told = cluster._refusal("auto", error)
    assert "(Ray 2.9.0 and Python 3.10.1, Ray 2.60.0 and Python 3.11.7)" in told
