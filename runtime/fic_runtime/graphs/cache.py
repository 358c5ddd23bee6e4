"""Optimised graphs, kept on this machine so that the next start need not optimise again.

An entry is one file, `<key>-<SHA-256 of its content>.onnx`, that appears whole. The key is made of
everything that decides what ONNX Runtime makes of a graph, the processor's instruction sets
included: an optimised graph holds the memory layouts of one kind of processor. Whatever is wrong
with the folder or a file in it costs time, never an answer: the original graph is always there.
"""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from ..errors import Log
from .onnx_runtime import onnxruntime

log: Log = Log(__name__)

# Below, optimising costs about as much as finding out that it was done (docs/why/benchmarks.md).
LEAST_BYTES = 1 << 20
MOST_BYTES = 1 << 30  # of a graph; ONNX Runtime cannot save one past 2 GB in one file

_FORM = "3"  # of an entry; counts up when the options that entries are made with change
_MOST_SECONDS = 90 * 24 * 3600  # since an entry was used last
_MOST_TOTAL = 2 << 30  # bytes of all entries
_UNFINISHED_SECONDS = 3600
_LARGEST_FACT = 64  # bytes
_CPU_INFO = Path("/proc/cpuinfo")


def cache_folder() -> Path | None:
    """Return the folder of fic's caches: FIC_CACHE_DIR, or the system's folder for them.

    None where FIC_CACHE_DIR is empty, which turns caches off, and without a home folder.
    """
    chosen = os.environ.get("FIC_CACHE_DIR")
    if chosen == "":
        return None
    try:
        if chosen is not None:
            return Path(chosen).expanduser().absolute()
        if sys.platform == "win32":
            folder = os.environ.get("LOCALAPPDATA")
            return (Path(folder) if folder else Path.home() / "AppData/Local") / "fic"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/fic"
        folder = os.environ.get("XDG_CACHE_HOME")
        # The specification of XDG wants relative paths ignored.
        is_absolute = folder and Path(folder).is_absolute()
        return (Path(folder) if folder and is_absolute else Path.home() / ".cache") / "fic"
    except (RuntimeError, OSError):  # no home, or a working folder that is gone
        return None


class GraphCache:
    """The optimised graphs in a folder, for the CPU of this machine and this ONNX Runtime.

    Safe to use from many processes at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._for = f"{_FORM} {onnxruntime.__version__} {platform.machine()} {_processor()}"

    def find(self, digest: str) -> Path | None:
        """Return the optimised form of a graph, None where there is none that is whole."""
        try:
            for file in sorted(self.folder.glob(f"{self._key(digest)}-*.onnx")):
                if _is_trusted(file) and _content_digest(file) == file.stem.partition("-")[2]:
                    with suppress(OSError):
                        os.utime(file)  # used now
                    return file
                self.discard(file, "it is damaged or somebody else's")
        except OSError as error:
            log.info("%s: optimised graphs cannot be read (%s)", self.folder, error.strerror)
        return None

    @contextmanager
    def writing(self, digest: str) -> Iterator[Path | None]:
        """Yield where to write the optimised form of a graph; keep it if it is there afterwards.

        None stands for a folder that cannot be written.
        """
        unfinished = self.folder / f"{self._key(digest)}.{os.getpid()}-{time.monotonic_ns()}.tmp"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.touch()
        except OSError as error:
            log.info("%s: optimised graphs cannot be kept (%s)", self.folder, error.strerror)
            yield None
            return
        try:
            yield unfinished
            self._keep(unfinished, digest)
        except OSError as error:
            log.info("%s: the optimised graph was not kept (%s)", self.folder, error.strerror)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def fact(self, name: str) -> str | None:
        """Return what `keep_fact` kept of this processor and this ONNX Runtime, if anything."""
        file = self._fact_file(name)
        try:
            if file.is_file() and _is_trusted(file):
                return file.read_bytes()[:_LARGEST_FACT].decode("ascii", "replace")
        except OSError as error:
            log.info("%s: cannot be read (%s)", file, error.strerror)
        return None

    def keep_fact(self, name: str, value: str) -> None:
        """Keep a word about this processor and this ONNX Runtime, if the folder can be written."""
        file = self._fact_file(name)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_text(value, encoding="ascii")
            unfinished.replace(file)
        except OSError as error:
            log.info("%s: cannot be kept (%s)", file, error.strerror)

    def _fact_file(self, name: str) -> Path:
        return self.folder / f"{self._key(name)}-{name}"

    def give_up(self, unfinished: Path, reason: str) -> None:
        """Drop what could not be written."""
        log.info("%s: the optimised graph was not written (%s)", self.folder, reason)
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)

    def discard(self, file: Path, reason: str) -> None:
        """Remove an entry that is of no use."""
        log.warning("%s: not used (%s); it is made again", file, reason)
        with suppress(OSError):
            file.unlink(missing_ok=True)

    def _key(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._for}".encode()).hexdigest()[:32]

    def _keep(self, unfinished: Path, digest: str) -> None:
        if not unfinished.exists() or not unfinished.stat().st_size:
            return
        key = self._key(digest)
        # Another process may have been first; what ONNX Runtime writes is not the same to the byte.
        if not any(self.folder.glob(f"{key}-*.onnx")):
            unfinished.replace(self.folder / f"{key}-{_content_digest(unfinished)}.onnx")
            self._prune()

    def _prune(self) -> None:
        """Remove what was not used for long, and the oldest where there is too much."""
        now, total = time.time(), 0
        files = ((file, file.stat()) for file in self.folder.iterdir())
        for file, status in sorted(files, key=lambda found: found[1].st_mtime, reverse=True):
            age = now - status.st_mtime
            if file.suffix == ".tmp" and age > _UNFINISHED_SECONDS:
                file.unlink(missing_ok=True)
            elif file.suffix == ".onnx":
                total += status.st_size
                if age > _MOST_SECONDS or total > _MOST_TOTAL:
                    file.unlink(missing_ok=True)


def graph_cache() -> GraphCache | None:
    """Return the cache in the user's folder, None where caches are turned off."""
    folder = cache_folder()
    return None if folder is None else GraphCache(folder / "graphs")


def _is_trusted(file: Path) -> bool:
    """Return whether it is this user's or the administrator's: the checksum keeps nobody out."""
    return not hasattr(os, "geteuid") or file.stat().st_uid in (os.geteuid(), 0)


def _content_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _processor() -> str:
    """Return model and instruction sets of the processor, as far as the system tells."""
    try:
        with _CPU_INFO.open(encoding="utf-8", errors="replace") as lines:
            first = list(takewhile(str.strip, lines))  # of the processors
    except OSError:
        return platform.processor()
    # Frequencies, counters and numbers of processors change and decide nothing.
    deciding = ("vendor_id", "cpu family", "model", "stepping", "flags", "features", "cpu ")
    return "".join(line for line in first if line.lower().startswith(deciding))
