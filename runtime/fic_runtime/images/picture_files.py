"""Which files a user means by a list of files and folders."""

import os
import re
from collections.abc import Iterable
from glob import glob
from pathlib import Path

from ..errors import ImageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"}
    | {".tif", ".tiff", ".avif", ".pbm", ".pgm", ".ppm", ".pnm"}
)


def find_pictures(arguments: Iterable[str | Path]) -> list[Path]:
    """Return the files named, and for each folder the pictures below it in natural order.

    A name that is not a file but has one of `*?[` in it is a pattern, as in a shell, and `**`
    stands for any folders: not every shell expands it. Hidden files and folders, whose
    names begin with a dot, are left out.

    Raises:
        ImageError: a folder holds no picture, or nothing fits a pattern.
    """
    found: list[Path] = []
    for argument in (path for name in arguments for path in _matches(Path(name))):
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


def _matches(path: Path) -> list[Path]:
    # lexists: a broken link is there, and reading it says what is wrong with it.
    if not re.search(r"[*?[]", str(path)) or os.path.lexists(path):
        return [path]
    # Not Path.glob: it takes no absolute patterns.
    names = glob(str(path), recursive=True)  # noqa: PTH207
    found = sorted(map(Path, names), key=natural_key)
    if not found:
        raise ImageError(f"{path}: no such file, and nothing fits it as a pattern; check the path")
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: reading it as a picture says so
        return False
