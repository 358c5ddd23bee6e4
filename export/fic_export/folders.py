"""Results appear whole or not at all, and never in place of something else."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


def check_replaceable(folder: Path, *, mark: str) -> None:
    """Make sure that `folder` is new, empty, or an earlier result that holds the file `mark`.

    Raises:
        OutputError: it is a file, or holds something else, or cannot be looked into; nothing of
            the user's is overwritten.
    """
    try:
        if folder.is_dir():
            if any(folder.iterdir()) and not (folder / mark).is_file():
                raise OutputError(
                    f"{folder}: holds other files and no {mark}; give a new or empty folder"
                )
        elif folder.exists():
            raise OutputError(f"{folder}: is a file; give a new or empty folder")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); give another folder"
        ) from error


@contextmanager
def replacing_folder(folder: Path, *, mark: str) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well.

    Otherwise nothing is left and `folder` is as it was. Folders cannot be exchanged in one step
    everywhere, so an earlier result is moved aside for the moment of the rename: a process killed
    just then leaves it, whole, in the hidden folder beside.

    Raises:
        OutputError: `folder` holds something that has no file called `mark`.
    """
    check_replaceable(folder, mark=mark)
    # Through links: what they lead to is replaced, and the links stay.
    folder = folder.resolve()
    # Beside the target or its first parent that exists: a rename works within one file system.
    place = next(parent for parent in folder.parents if parent.exists())
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=place))
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        # Again: the block may have taken minutes.
        check_replaceable(folder, mark=mark)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _replace(folder, fresh, aside=work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(folder: Path, fresh: Path, *, aside: Path) -> None:
    if folder.exists():
        folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
