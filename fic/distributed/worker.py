"""What runs on a node of the cluster: one worker, with the base's graph opened once."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fic_runtime.errors import FicError, one_line
from fic_runtime.preprocessing import Geometry

from ..bottlenecks.engines import OnnxEngine
from ..bottlenecks.single_reading import Outcome, Unread, extracted
from ..cache.additions import CacheAdditions
from ..cache.keys import Keys
from ..data.dataset import Skipped
from ..data.remote import RemotePath
from ..fingerprint import Fingerprint
from ..options import Compression

# Of those that decide what a bottleneck is; Python's and Ray's own versions are compared by Ray.
_PACKAGES = (
    *("fast-image-classification", "fic-runtime", "onnxruntime", "onnxruntime-gpu"),
    *("opencv-python-headless", "opencv-python", "numpy"),
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all workers have in common.

    Attributes:
        directory: the cache directory, absolute or at a URL.
        fingerprint: what the bottlenecks depend on.
        compression: how rows are stored.
        geometry: that of the base's pictures.
        batch_size: pictures in one pass through the base.
    """

    directory: Path
    fingerprint: Fingerprint
    compression: Compression
    geometry: Geometry
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a node has to have, as the driver has it.

    Attributes:
        versions: of packages, by name.
        file: a file in a shared cache directory, with its content; None for one at a URL.
        picture: one of the pictures, with its size in bytes; None where none is there.
    """

    versions: Mapping[str, str]
    file: tuple[Path, bytes] | None
    picture: tuple[Path, int] | None


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a bottleneck is, where installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Worker:
    """Extracts pictures into shards of its own; an actor of Ray, of several calls at once.

    Args:
        work: what all workers have in common.
        graph: the converted base.
        known: keys of the bottlenecks that are in the cache.
        cpus: processors that it may use.
    """

    def __init__(self, work: Work, graph: bytes, known: Keys, cpus: int) -> None:
        self._work = work
        self._graph = graph
        self._known = known
        self._cpus = cpus
        self._engine: OnnxEngine | None = None
        self._passes: threading.Semaphore | None = None
        self._cache: CacheAdditions | None = None

    def problem(self, probe: Probe) -> str | None:
        """Open graph and cache, and return in a few words what this node lacks for the work."""
        here = package_versions()
        for name, wanted in probe.versions.items():
            if here.get(name) != wanted:
                return (
                    f"has {name} {here.get(name) or 'not at all'} and the driver {wanted}; "
                    "install the same versions on both"
                )
        try:
            if unseen := self._unseen(probe):
                return unseen
            self._open()
        except FicError as error:
            return one_line(error)
        except ImportError as error:
            return f"lacks a package ({one_line(error)}); install what the driver has"
        return None

    def extract(self, pictures: Sequence[Unread]) -> Outcome:
        """Extract pictures, and return what came of them once their bottlenecks are committed.

        Raises:
            FicError: the cache cannot be written.
        """
        if self._engine is None or self._cache is None:
            raise RuntimeError("`problem` opens graph and cache, and comes first")
        digests: dict[Path, bytes] = {}
        skipped: list[Skipped] = []
        made = lost = 0
        for outcome in extracted(
            pictures,
            self._cache,
            self._engine,
            self._work.geometry,
            self._work.batch_size,
            self._passes,
        ):
            digests.update(outcome.digests)
            skipped += outcome.skipped
            made += outcome.extracted
            lost += outcome.lost
        return Outcome(digests=digests, skipped=skipped, extracted=made, lost=lost)

    def _open(self) -> None:
        work = self._work
        self._engine = OnnxEngine(self._graph, cpus=self._cpus)
        # Of all calls of `extract` at once: while one ends, the next fills the processors.
        self._passes = threading.Semaphore(self._engine.passes)
        self._cache = CacheAdditions(
            work.directory, work.fingerprint, self._known, work.compression
        )

    def _unseen(self, probe: Probe) -> str | None:
        if probe.file is not None and not _holds(*probe.file):
            return (
                f"does not see the driver's folder {probe.file[0].parent}; give a --bottleneck-dir "
                "that all nodes share, or one in object storage"
            )
        if probe.picture is None:
            return None
        picture, size = probe.picture
        try:
            seen = picture.stat().st_size
        except OSError as error:
            where = "its credentials" if isinstance(picture, RemotePath) else "its mounts"
            return f"cannot read {picture} ({error.strerror}); check {where}"
        if seen != size:
            return f"sees another {picture} than the driver ({seen} bytes, not {size})"
        return None


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False
