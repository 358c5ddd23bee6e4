"""Bases that this machine knows: their converted graphs and recipes, in this user's own folder.

So a base is built and converted once, and not once for each cache of bottlenecks. Beside the
optimized graphs of the runtime, `bases` holds a folder for each base, named as that of its
bottlenecks, and `recipes`. What is wrong with it costs time, never an answer.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fic_runtime.graphs.cache import cache_folder
from fic_runtime.reading import is_private, open_regular, private_folder, read_json

from ..cache.locks import make_folder, new_temporary, publish, remove_abandoned_temporaries
from ..errors import CacheError

log = logging.getLogger(__name__)

GRAPH = "base.onnx"
NOTE = "base.json"
RECIPES = "recipes"

_MOST_BYTES = 1 << 20  # of a note or a recipe, which have some hundreds
_MOST_SECONDS = 90 * 24 * 3600  # since a graph was used last
_MOST_TOTAL = 4 << 30  # bytes of all graphs


class KnownBases:
    """The graphs and recipes in a folder that nobody else can write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recipe(self, name: str) -> Mapping[str, Any]:
        """Return what was remembered under this name; nothing if it was not."""
        return read_note(self._folder / RECIPES / name)

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
            write_note(file, values)
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


def is_whole(file: Path, made_with: Mapping[str, str]) -> bool:
    """Return whether a graph is there: ours, of this converter, and as its note beside it says."""
    note = read_note(file.with_name(NOTE))
    return note.get("made_with") == made_with and note.get("sha256") == own_digest(file)


def write_graph(file: Path, data: bytes, made_with: Mapping[str, str]) -> None:
    """Write a graph and the note beside it.

    Raises:
        CacheError: they cannot be written.
    """
    write_whole(file, data)
    digest = hashlib.sha256(data).hexdigest()
    write_note(file.with_name(NOTE), {"sha256": digest, "made_with": made_with})


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of a cache so that it is there whole or not at all.

    Raises:
        CacheError: it cannot be written.
    """
    try:
        make_folder(path.parent)
        # By the rules of the cache and not as `whole_file`: this is a folder of the cache, whose
        # sweeps know what a killed process left and what another one is writing now.
        remove_abandoned_temporaries(path.parent)
        with new_temporary(path.parent) as file:
            if hasattr(os, "fchmod"):  # a graph that a group may write would not be believed
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o755)
            publish(file, data, path)
    except OSError as error:
        raise CacheError(
            f"{path}: cannot be written ({error.strerror}); make room or give another "
            "--bottleneck-dir, and run the command again"
        ) from error


def own_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file that nobody else can write; None where it is no such file."""
    try:
        with open_regular(file, follow_link=False) as stream:
            if is_private(os.fstat(stream.fileno())):
                return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type] # a FileIO
    except OSError as error:
        log.debug("%s: %s", file, error.strerror)
    return None


def read_note(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; nothing where it cannot be read."""
    try:
        values = read_json(path, _MOST_BYTES, follow_link=False)
    except (OSError, ValueError):
        return {}  # a memo that cannot be read counts as absent
    return values if isinstance(values, dict) else {}


def write_note(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object as a small JSON file; see `write_whole`."""
    write_whole(path, (json.dumps(values, indent=2) + "\n").encode())
