"""Files of weights that a user gave, kept beside the bottlenecks that were made with them.

A run that was moved to another machine names a file that is not there. Its copy in the cache is
believed no more than the file: what it holds must have the digest that the run tells of.
"""

import logging
import shutil
from pathlib import Path

from fic_runtime.reading import private_folder
from fic_runtime.results import whole_file

log = logging.getLogger(__name__)

_SUFFIXES = (".weights.h5", ".h5", ".keras")


def keep_file(file: Path, folder: Path) -> None:
    """Copy a file of weights into the folder of its bottlenecks, unless a copy is there."""
    kept = _name_in(folder, file)
    if kept.exists():
        return
    try:
        with whole_file(kept) as part:
            shutil.copyfile(file, part)
    except OSError as error:  # such as a full disk: it is only for a run that moves
        log.info("%s: no copy of the weights is kept (%s)", kept, error.strerror or error)


def found_file(file: Path, folder: Path) -> Path:
    """Return a file of weights, or its copy where it is gone and nobody else could write there."""
    kept = _name_in(folder, file)
    if file.is_file() or not kept.is_file():
        return file
    try:
        for place in (folder.parent, folder):
            private_folder(place)
    except OSError as error:
        log.warning(
            "%s: the copy of the weights is not used (%s: %s)",
            *(kept, error.filename, error.strerror),
        )
        return file
    return kept


def _name_in(folder: Path, file: Path) -> Path:
    name = file.name.casefold()
    return folder / f"given{next((end for end in _SUFFIXES if name.endswith(end)), file.suffix)}"
