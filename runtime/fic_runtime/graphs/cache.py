"""Optimised graphs, kept on this machine so that the next start need not optimise again.

An entry is one file, `<key>-<SHA-256 of key and content>.onnx`, that appears whole. The key is made
of everything that decides what ONNX Runtime makes of a graph, the processor's instruction sets
included: an optimised graph holds the memory layouts of one kind of processor. Whatever is wrong
with the folder or a file in it costs time, never an answer: the original graph is always there.
"""

import hashlib
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from ..errors import Log
from ..reading import private_folder, read_regular
from .onnx_runtime import onnxruntime

log: Log = Log(__name__)

# Below, optimising costs about as much as finding out that it was done (docs/why/benchmarks.md).
LEAST_BYTES = 1 << 20
MOST_BYTES = 1 << 30  # of a graph; ONNX Runtime cannot save one past 2 GB in one file

_FORM = "4"  # of an entry; counts up when the options that entries are made with change
_MOST_SECONDS = 90 * 24 * 3600  # since an entry was used last
_MOST_TOTAL = 2 << 30  # bytes of all entries
_UNFINISHED_SECONDS = 3600
_LARGEST_FACT = 64  # bytes
_ENTRY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}\.onnx")
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


class GraphCache:
    """The optimised graphs in a folder, for the CPU of this machine and this ONNX Runtime.

    Safe to use from many processes at once. What is there is run without another look, so a folder
    that somebody else may write, or exchange, is not used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._for = f"{_FORM} {onnxruntime.__version__} {platform.machine()} {_processor()}"

    def find(self, digest: str) -> bytes | None:
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
            file = Path(folder, name)
            try:
                content = read_regular(file, _MOST_TOTAL, follow_link=False, private=True)
            except OSError:
                content = b""
            if content and _bound(key, content) == name:
                with suppress(OSError):
                    os.utime(file)  # used now
                return content
            self._discard(file, "it is damaged or somebody else's")
        return None

    @contextmanager
    def writing(self, digest: str) -> Iterator[Path | None]:
        """Yield where to write the optimised form of a graph; keep it if it is there afterwards.

        None stands for a folder that cannot be written.
        """
        key = self._key(digest)
        try:
            unfinished = self._new_file(key)
        except OSError as error:
            self._complain("cannot be kept", error)
            yield None
            return
        try:
            yield unfinished
            self._keep(unfinished, key)
        except OSError as error:
            self._complain("were not kept", error)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

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
            unfinished = self._new_file(self._key(name))
            unfinished.write_text(value, encoding="ascii")
            unfinished.replace(unfinished.with_name(self._fact_name(name)))
        except OSError as error:
            self._complain("cannot be kept", error)

    def give_up(self, unfinished: Path, reason: str) -> None:
        """Drop what could not be written."""
        log.info("%s: the optimised graph was not written (%s)", self.folder, reason)
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)

    def discard(self, digest: str, reason: str) -> None:
        """Remove the optimised form of a graph, which is of no use."""
        key = self._key(digest)
        with suppress(OSError):
            folder = Path(private_folder(self.folder))
            for file in sorted(folder.glob(f"{key}-*")):
                if _ENTRY.fullmatch(file.name):
                    self._discard(file, reason)

    def _discard(self, file: Path, reason: str) -> None:
        log.warning("%s: not used (%s); it is made again", file, reason)
        with suppress(OSError):
            file.unlink(missing_ok=True)

    def _complain(self, what: str, error: OSError) -> None:
        log.info(
            "%s: optimised graphs %s (%s)", error.filename or self.folder, what, error.strerror
        )

    def _key(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._for}".encode()).hexdigest()[:32]

    def _fact_name(self, name: str) -> str:
        return f"{self._key(name)}-{name}"

    def _new_file(self, key: str) -> Path:
        """Make an empty file that nobody else may read or write, in a folder that is private.

        Raises:
            OSError: it cannot be made, or the folder is not private.
        """
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = Path(private_folder(self.folder), f"{key}.{os.getpid()}-{time.monotonic_ns()}.tmp")
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return file

    def _keep(self, unfinished: Path, key: str) -> None:
        if not unfinished.exists() or not unfinished.stat().st_size:
            return
        # Another process may have been first; what ONNX Runtime writes is not the same to the byte.
        if not any(unfinished.parent.glob(f"{key}-*.onnx")):
            unfinished.chmod(0o600)  # ONNX Runtime may have made it anew
            content = read_regular(unfinished, _MOST_TOTAL, follow_link=False, private=True)
            unfinished.replace(unfinished.with_name(_bound(key, content)))
            self._prune(unfinished.parent)

    def _prune(self, folder: Path) -> None:
        """Remove what was not used for long, and the oldest where there is too much.

        Only what is called as these files are: the folder is the user's, who may keep more in it.
        """
        now, total = time.time(), 0
        files = ((file, file.lstat()) for file in folder.iterdir())
        for file, status in sorted(files, key=lambda found: found[1].st_mtime, reverse=True):
            age = now - status.st_mtime
            if _UNFINISHED.fullmatch(file.name) and age > _UNFINISHED_SECONDS:
                file.unlink(missing_ok=True)
            elif _ENTRY.fullmatch(file.name):
                total += status.st_size
                if age > _MOST_SECONDS or total > _MOST_TOTAL:
                    file.unlink(missing_ok=True)


def graph_cache() -> GraphCache | None:
    """Return the cache in the user's folder, None where caches are turned off."""
    folder = cache_folder()
    return None if folder is None else GraphCache(folder / "graphs")


def _bound(key: str, content: bytes) -> str:
    """Return the name of an entry, which is that of no other graph and no other content."""
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return f"{key}-{digest.hexdigest()}.onnx"


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
