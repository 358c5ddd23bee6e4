"""Which files a user means by a list of files and folders."""

import re
from collections.abc import Iterable
from pathlib import Path

from .errors import ImageError


def find_pictures(arguments: Iterable[str | Path]) -> list[Path]:
    """Return the files named, and for each folder the pictures below it in natural order.

    Hidden files and folders, whose names begin with a dot, are left out.

    Raises:
        ImageError: a folder holds no picture.
    """
    from .images import IMAGE_SUFFIXES  # imports NumPy, which the command line need not load

    found: list[Path] = []
    for argument in map(Path, arguments):
        if not _is_folder(argument):
            found.append(argument)
            continue
        pictures = [
            file
            for file in argument.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(argument).parts)
            and not file.is_dir()
        ]
        if not pictures:
            raise ImageError(f"{argument}: no pictures in this folder; give image files or folders")
        found += sorted(pictures, key=natural_key)
    return found


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key under which `img2` stands before `img10`; no two paths share one."""
    parts = re.split(r"(\d+)", str(path))
    numbered = [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
    return [*numbered, (0, 0, str(path))]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: reading it as a picture says so
        return False
