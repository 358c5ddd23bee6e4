"""What bases remember in the cache folder: small JSON files, and graphs."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fic_runtime.reading
from fic_runtime.reading import is_private, open_regular

from ..cache.locks import make_folder, new_temporary, publish, remove_abandoned_temporaries
from ..errors import CacheError

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20  # of a note or a recipe, which have some hundreds


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of the cache folder; it appears whole or not at all.

    Raises:
        CacheError: it cannot be written.
    """
    try:
        make_folder(path.parent)
        # By the rules of the cache and not as `whole_file`: this is a folder of the cache, whose
        # sweeps know what a killed process left and what another one is writing now.
        remove_abandoned_temporaries(path.parent)
        with new_temporary(path.parent) as file:
            # A graph that a group may write would not be believed; some disks know no rights.
            with suppress(AttributeError, OSError):
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o755)
            publish(file, data, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_with_weights(path: Path, weights: Path, write: Callable[[Path], None]) -> None:
    """Write a graph and the file of its weights, which lies beside it.

    Args:
        path: the graph.
        weights: the file of its weights, which comes first: a graph never lacks them.
        write: writes both into another folder, under the name of `path` there.

    Raises:
        CacheError: they cannot be written.
    """
    try:
        make_folder(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".graph-") as folder:
            written = Path(folder) / path.name
            write(written)
            written.with_name(weights.name).replace(weights)
            written.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return what a memo says; nothing where it is not there or cannot be read."""
    try:
        values = fic_runtime.reading.read_json(path, _MOST_BYTES, follow_link=False)
    except (OSError, ValueError):
        return {}  # a memo that cannot be read counts as absent
    return values if isinstance(values, dict) else {}


def own_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file that nobody else can write; None where it is no such file."""
    try:
        with open_regular(file, follow_link=False) as stream:
            if is_private(os.fstat(stream.fileno())):
                return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        log.debug("%s: %s", file, error.strerror)
    return None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a memo.

    Raises:
        CacheError: it cannot be written.
    """
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


def _unwritable(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{path}: cannot be written ({error.strerror}); make room or give another "
        "--bottleneck-dir, and run the command again"
    )
