"""Bases that this machine knows: their converted graphs and recipes, in this user's own folder.

So a base is built and converted once, and not once for each cache of bottlenecks. Beside the
optimized graphs of the runtime, `bases` holds a folder for each base, named as that of its
bottlenecks, and `recipes`. What is wrong with it costs time, never an answer.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fic_runtime.graphs.cache import cache_folder
from fic_runtime.reading import private_folder

from ..cache.locks import make_folder
from ..errors import CacheError
from .memos import own_digest, read_json, write_atomically, write_json

log = logging.getLogger(__name__)

GRAPH = "base.onnx"
NOTE = "base.json"
RECIPES = "recipes"

_MOST_SECONDS = 90 * 24 * 3600  # since a graph was used last
_MOST_TOTAL = 4 << 30  # bytes of all graphs


class KnownBases:
    """The graphs and recipes in a folder that nobody else can write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recipe(self, name: str) -> Mapping[str, Any]:
        """Return what was remembered under this name; nothing if it was not."""
        return read_json(self._folder / RECIPES / name)

    def remember(self, name: str, recipe: Mapping[str, Any]) -> None:
        """Remember a recipe, if the folder can be written."""
        self._write(self._folder / RECIPES / name, recipe)

    def graph(self, name: str, made_with: Mapping[str, str]) -> Path | None:
        """Return the graph of a base, if there is one, whole and of this converter."""
        file = self._folder / name / GRAPH
        if not is_whole(file, made_with):
            return None
        with suppress(OSError):
            os.utime(file)  # used now
        return file

    def keep_graph(self, name: str, data: bytes, made_with: Mapping[str, str]) -> None:
        """Keep the graph of a base, if the folder can be written."""
        try:
            write_graph(self._folder / name / GRAPH, data, made_with)
            self._prune()
        except (CacheError, OSError) as error:
            log.info("%s: the graph is not kept (%s)", self._folder, error)

    def _write(self, file: Path, values: Mapping[str, Any]) -> None:
        try:
            write_json(file, values)
        except CacheError as error:
            log.info("%s", error)

    def _prune(self) -> None:
        """Remove graphs that were not used for long, and the oldest where there is too much."""
        now, total = time.time(), 0
        files = [(file, file.stat()) for file in self._folder.glob(f"*/{GRAPH}")]
        for file, status in sorted(files, key=lambda found: found[1].st_mtime, reverse=True):
            total += status.st_size
            if now - status.st_mtime > _MOST_SECONDS or total > _MOST_TOTAL:
                shutil.rmtree(file.parent, ignore_errors=True)


def known_bases() -> KnownBases | None:
    """Return those of this user, None where caches are turned off or others may write there."""
    own = cache_folder()
    if own is None:
        return None
    folder = own / "bases"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_folder(folder)
    except OSError as error:
        log.info("%s: not used (%s)", folder, error.strerror)
        return None
    return KnownBases(folder)


def believed_folder(cache_dir: Path, folder: Path, user: object) -> Path:
    """Return a folder for the graph of a base where nobody else can put one of theirs.

    Args:
        cache_dir: the cache.
        folder: that of the base in it, which is taken where nobody else may write.
        user: who needs the graph; what cannot be kept anywhere goes with it.
    """
    try:
        make_folder(folder)
        for each in (cache_dir, folder):
            private_folder(each)
    except OSError as error:
        return _own_folder(folder.name, f"{error.filename}: {error.strerror}", user)
    return folder


def _own_folder(name: str, reason: str, user: object) -> Path:
    own = cache_folder()
    if own is not None:
        folder = own / "bases" / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private_folder(folder)
        except OSError as error:
            log.info("%s: not used (%s)", folder, error.strerror)
        else:
            log.warning("%s; so the graph of the base is kept in %s", reason, folder)
            return folder
    log.warning("%s; so the graph of the base is converted anew and not kept", reason)
    passing = tempfile.mkdtemp(prefix="fic-base-")
    weakref.finalize(user, shutil.rmtree, passing, ignore_errors=True)
    return Path(passing)


def is_whole(file: Path, made_with: Mapping[str, str]) -> bool:
    """Return whether a graph is there: ours, of this converter, and as its note beside it says."""
    note = read_json(file.with_name(NOTE))
    return note.get("made_with") == made_with and note.get("sha256") == own_digest(file)


def write_graph(file: Path, data: bytes, made_with: Mapping[str, str]) -> None:
    """Write a graph and the note beside it.

    Raises:
        CacheError: they cannot be written.
    """
    write_atomically(file, data)
    digest = hashlib.sha256(data).hexdigest()
    write_json(file.with_name(NOTE), {"sha256": digest, "made_with": made_with})
