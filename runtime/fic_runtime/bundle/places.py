"""Where a bundle may be written: a new place, or that of an earlier bundle and nothing else."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import is_zipfile

from ..errors import BundleError, OutputError
from ..results import cannot_write, check_place, check_writable, replacing_result
from .files import bundle_files
from .manifest import MANIFEST_FILE, MOST_BYTES
from .opening import CARD_FILE
from .signature import SIGNATURE_FILE

_KEYS = frozenset({"format", "labels", "files"})


def check_bundle_place(path: Path) -> None:
    """Make sure that a bundle may be written at `path`, a folder or an archive ending in .zip.

    Raises:
        OutputError: something is there that is not an earlier bundle, or lies in the folder beside
            one, or nothing can be written there.
    """
    check_place(path, mark=MANIFEST_FILE, names=_names(path))
    check_writable(path)


@contextmanager
def appearing_bundle(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes the bundle at `path` when the block ends well.

    Raises:
        OutputError: see `check_bundle_place`.
    """
    check_bundle_place(path)
    try:
        with replacing_result(path, mark=MANIFEST_FILE, names=_names(path)) as folder:
            yield folder
            check_bundle_place(path)  # again: the block may have taken minutes
    except OSError as error:
        raise cannot_write(path, error) from error


def _names(path: Path) -> set[str] | None:
    """Return the files of the bundle that is there; None where nothing is.

    Raises:
        OutputError: the manifest is that of something else, as browser extensions have one.
    """
    # Not by the methods of a path: a name that is too long is an error to them.
    if not os.path.isdir(path) and not (os.path.isfile(path) and is_zipfile(path)):  # noqa: PTH112, PTH113
        return None  # `check_place` says what is there
    try:
        text = bundle_files(path).read(MANIFEST_FILE, MOST_BYTES)
    except FileNotFoundError:
        return None  # likewise
    except (OSError, BundleError):
        text = b""  # a manifest that no bundle has
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not manifest.keys() >= _KEYS:
        raise OutputError(
            f"{path}: holds a {MANIFEST_FILE} that is not that of a bundle; give another path"
        )
    files = manifest["files"]
    return {MANIFEST_FILE, CARD_FILE, SIGNATURE_FILE, *(files if isinstance(files, dict) else ())}
