"""Optimised graphs, kept on this machine so that the next start need not optimise again.

An entry is a folder, `<key>-<SHA-256 of key and content>`, that appears whole: the graph, and a
file of its weights, which all sessions of it share. The key is made of everything that decides what
ONNX Runtime makes of a graph, the processor's instruction sets included: an optimised graph holds
the memory layouts of one kind of processor. Whatever is wrong with the cache or an entry costs
time, never an answer: the original graph is always there.
"""

import hashlib
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

from ..errors import Log
from ..reading import (
    check_private,
    open_regular,
    private_folder,
    read_regular,
    too_large,
)
from .onnx_runtime import onnxruntime

log: Log = Log(__name__)

# Below, optimising costs about as much as finding out that it was done (docs/why/benchmarks.md).
LEAST_BYTES = 1 << 20
MOST_BYTES = 1 << 30  # of a graph; ONNX Runtime cannot save one past 2 GB in one file

WEIGHTS_FILE = "weights"  # as the graph of an entry calls it

_FORM = "5"  # of an entry; counts up when the options that entries are made with change
_MOST_SECONDS = 90 * 24 * 3600  # since an entry was used last
_MOST_TOTAL = 2 << 30  # bytes of all entries
_UNFINISHED_SECONDS = 3600
_LARGEST_FACT = 64  # bytes
_GRAPH_FILE = "graph.onnx"
_ENTRY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}")
_EARLIER_ENTRY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}\.onnx")  # graph and weights in one file
_UNFINISHED = re.compile(r"[0-9a-f]{32}\.[0-9]+-[0-9]+\.tmp")
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


class Entry(NamedTuple):
    """An optimised graph that was found whole.

    Attributes:
        graph: the ONNX model, whose larger weights are elsewhere.
        weights: these, mapped from their file: they stay the same when the entry is removed.
        folder: where the file of weights is.
    """

    graph: bytes
    weights: mmap | bytes
    folder: Path


class GraphCache:
    """The optimised graphs in a folder, for the CPU of this machine and this ONNX Runtime.

    Safe to use from many processes at once. What is there is run without another look, so a folder
    that somebody else may write, or exchange, is not used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._for = f"{_FORM} {onnxruntime.__version__} {platform.machine()} {_processor()}"

    def find(self, digest: str) -> Entry | None:
        """Return the optimised form of a graph, None where there is none that is whole."""
        key = self._key(digest)
        try:
            folder = private_folder(self.folder)
            names = [name for name in os.listdir(folder) if name.startswith(f"{key}-")]  # noqa: PTH208
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain("are not used", error)
            return None
        for name in sorted(names):
            if not _ENTRY.fullmatch(name):
                continue
            place = Path(folder, name)
            with suppress(OSError):
                entry = _read_entry(place)
                if _bound(key, entry) == name:
                    with suppress(OSError):
                        os.utime(place)  # used now
                    return entry
            self._discard(place, "it is damaged or somebody else's")
        return None

    @contextmanager
    def writing(self, digest: str) -> Iterator[Path | None]:
        """Yield where to write the optimised form of a graph; keep it if it is there afterwards.

        Its weights go beside it, as `WEIGHTS_FILE`. None: the folder cannot be written.
        """
        key = self._key(digest)
        try:
            unfinished = self._new_place(key)
            unfinished.mkdir(mode=0o700)
        except OSError as error:
            self._complain("cannot be kept", error)
            yield None
            return
        try:
            yield unfinished / _GRAPH_FILE
            self._keep(unfinished, key)
        except OSError as error:
            self._complain("were not kept", error)
        finally:
            _remove(unfinished)

    def fact(self, name: str) -> str | None:
        """Return what `keep_fact` kept of this processor and this ONNX Runtime, if anything."""
        try:
            file = Path(private_folder(self.folder), self._fact_name(name))
            found = read_regular(file, _LARGEST_FACT, follow_link=False, private=True)
            return found.decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain("are not used", error)
        return None

    def keep_fact(self, name: str, value: str) -> None:
        """Keep a word about this processor and this ONNX Runtime, if the folder can be written."""
        try:
            unfinished = self._new_place(self._key(name))
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            unfinished.write_text(value, encoding="ascii")
            unfinished.replace(unfinished.with_name(self._fact_name(name)))
        except OSError as error:
            self._complain("cannot be kept", error)

    def give_up(self, unfinished: Path, reason: str) -> None:
        """Drop what could not be written."""
        log.info("%s: the optimised graph was not written (%s)", self.folder, reason)
        _remove(unfinished.parent)

    def discard(self, digest: str, reason: str) -> None:
        """Remove the optimised form of a graph, which is of no use."""
        key = self._key(digest)
        with suppress(OSError):
            folder = Path(private_folder(self.folder))
            for place in sorted(folder.glob(f"{key}-*")):
                if _ENTRY.fullmatch(place.name):
                    self._discard(place, reason)

    def _discard(self, place: Path, reason: str) -> None:
        log.warning("%s: not used (%s); it is made again", place, reason)
        _remove(place)

    def _complain(self, what: str, error: OSError) -> None:
        log.info(
            "%s: optimised graphs %s (%s)", error.filename or self.folder, what, error.strerror
        )

    def _key(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._for}".encode()).hexdigest()[:32]

    def _fact_name(self, name: str) -> str:
        return f"{self._key(name)}-{name}"

    def _new_place(self, key: str) -> Path:
        """Return a path where nothing is yet, in a folder that is private.

        Raises:
            OSError: the folder cannot be made, or is not private.
        """
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(private_folder(self.folder), f"{key}.{os.getpid()}-{time.monotonic_ns()}.tmp")

    def _keep(self, unfinished: Path, key: str) -> None:
        if not (unfinished / _GRAPH_FILE).exists():
            return
        # Another process may have been first; what ONNX Runtime writes is not the same to the byte.
        if not any(
            map(_ENTRY.fullmatch, (each.name for each in unfinished.parent.glob(f"{key}-*")))
        ):
            for file in unfinished.iterdir():
                file.chmod(0o600)  # ONNX Runtime made them
            # Not mapped any more when it is renamed, which Windows would not allow.
            name = _bound(key, _read_entry(unfinished))
            unfinished.rename(unfinished.with_name(name))
            self._prune(unfinished.parent)

    def _prune(self, folder: Path) -> None:
        """Remove what was not used for long, and the oldest where there is too much.

        Only what is called as these are: the folder is the user's, who may keep more in it.
        """
        now, total = time.time(), 0
        places = ((place, place.lstat()) for place in folder.iterdir())
        for place, status in sorted(places, key=lambda found: found[1].st_mtime, reverse=True):
            age = now - status.st_mtime
            if _UNFINISHED.fullmatch(place.name):
                if age > _UNFINISHED_SECONDS:
                    _remove(place)
            elif _ENTRY.fullmatch(place.name) or _EARLIER_ENTRY.fullmatch(place.name):
                files = place.glob("*") if stat.S_ISDIR(status.st_mode) else [place]
                total += sum(file.lstat().st_size for file in files)
                if age > _MOST_SECONDS or total > _MOST_TOTAL:
                    _remove(place)


def graph_cache() -> GraphCache | None:
    """Return the cache in the user's folder, None where caches are turned off."""
    folder = cache_folder()
    return None if folder is None else GraphCache(folder / "graphs")


def reason_not_kept() -> str | None:
    """Return why no optimised graph is kept or used in the user's folder; None where they are.

    Nothing is written. A folder that is not there yet is made when it is needed.
    """
    folder = cache_folder()
    if folder is None:
        return "FIC_CACHE_DIR is empty, or there is no home folder"
    folder /= "graphs"
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        if there == folder:
            private_folder(folder)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    can_be_written = there.is_dir() and os.access(there, os.W_OK)
    return None if can_be_written else f"{there}: it is no folder that can be written"


def _read_entry(place: Path) -> Entry:
    """Return what an entry holds, be it whole or not.

    Raises:
        OSError: it cannot be read, is a link, or others may write to it.
    """
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{place}: not a folder")
    check_private(status, place)
    graph = read_regular(place / _GRAPH_FILE, MOST_BYTES, follow_link=False, private=True)
    try:
        with open_regular(place / WEIGHTS_FILE, follow_link=False) as file:
            status = os.fstat(file.fileno())
            check_private(status, place / WEIGHTS_FILE)
            if status.st_size > _MOST_TOTAL:
                raise too_large(place / WEIGHTS_FILE, _MOST_TOTAL)
            weights = mmap(file.fileno(), 0, access=ACCESS_READ) if status.st_size else b""
    except FileNotFoundError:  # all are small enough for the graph itself
        weights = b""
    return Entry(graph, weights, place)


def _bound(key: str, entry: Entry) -> str:
    """Return the name of an entry, which is that of no other graph and no other content."""
    digest = hashlib.sha256(f"{key} {len(entry.graph)} ".encode())
    digest.update(entry.graph)
    digest.update(entry.weights)
    return f"{key}-{digest.hexdigest()}"


def _remove(place: Path) -> None:
    """Remove an entry, or what was left of one; on Windows one that is in use stays."""
    with suppress(OSError):
        if not stat.S_ISDIR(place.lstat().st_mode):
            place.unlink(missing_ok=True)
            return
        for file in (place / _GRAPH_FILE, place / WEIGHTS_FILE):
            file.unlink(missing_ok=True)
        place.rmdir()


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
