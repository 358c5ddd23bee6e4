"""Data sets on disk: a folder with one sub-folder of pictures per class."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fic_runtime.bundle.labels import is_label
from fic_runtime.images.picture_files import IMAGE_SUFFIXES

from ..errors import DataError
from .dataset import Dataset

LAYOUT = "a data set is a folder with one folder of pictures per class"

# Folders in which other programs keep thumbnails and resource forks of the real pictures.
_NOT_CLASSES = frozenset({"__MACOSX", "@eaDir"})
_SIDES = frozenset({"train", "val", "valid", "validation", "test"})


def read_folder(folder: str | Path, *, labels: Sequence[str] | None = None) -> Dataset:
    """List the pictures of a folder whose sub-folders are the classes.

    Class names are in Unicode's composed form (NFC) and sorted by code point, so that every
    system and every file system gives the same labels. Pictures may lie in folders below their
    class. Hidden files are left out, links are followed.

    Args:
        folder: the folder to read.
        labels: the classes of the training set, when this is the validation set: it may lack
            some of them, but may not add any.

    Raises:
        DataError: the folder cannot be read, or does not hold what a data set must.
    """
    folder = Path(folder)
    class_folders = _class_folders(folder)
    if labels is None:
        _require_classes(folder, class_folders)
    elif extra := sorted(set(class_folders) - set(labels)):
        raise DataError(
            f"{folder / extra[0]}: the training set has no class {extra[0]!r}; "
            f"add it to the training set or remove the folder"
        )
    names = tuple(sorted(class_folders) if labels is None else labels)
    paths: list[Path] = []
    targets: list[int] = []
    for target, name in enumerate(names):
        found = _pictures(class_folders[name]) if name in class_folders else []
        if not found and labels is None:
            raise DataError(
                f"{class_folders[name]}: no pictures of a format that fic reads "
                f"({_formats()}); add some or remove the folder"
            )
        paths += found
        targets += [target] * len(found)
    if not paths:
        raise DataError(f"{folder}: no pictures of any class; {LAYOUT}")
    return Dataset(tuple(paths), tuple(targets), names, folder)


def _class_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each class by its normalized name."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; {LAYOUT}, or a file of the name *.csv")
    found: dict[str, Path] = {}
    for entry in _entries(folder):
        if not entry.is_dir() or entry.name in _NOT_CLASSES:
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if not is_label(name):
            raise DataError(
                f"{entry.path!a}: a class name may hold no line break, control character "
                f"or undecodable byte; rename the folder"
            )
        if name in found:
            raise DataError(
                f"{folder}: two class folders are both called {name!r}, once with composed and "
                f"once with combining characters; put their pictures into one folder"
            )
        found[name] = folder / entry.name
    return found


def _require_classes(folder: Path, class_folders: dict[str, Path]) -> None:
    if len(class_folders) == 1:
        [(name, only)] = class_folders.items()
        hint = f"; is {only} the data set?" if len(_class_folders(only)) > 1 else f"; {LAYOUT}"
        raise DataError(f"{folder}: needs at least two class folders, found 1 ({name}){hint}")
    if not class_folders:
        loose = any(_is_picture(entry) for entry in _entries(folder))
        found = "pictures but no class folders" if loose else "no class folders"
        raise DataError(
            f"{folder}: holds {found}; {LAYOUT}, for example {folder / 'roses' / '1.jpg'}"
        )
    if class_folders.keys() <= _SIDES and all(map(_class_folders, class_folders.values())):
        # Read as it stands, it would train a classifier of "train" against "val".
        raise DataError(
            f"{folder}: is already split into {' and '.join(sorted(class_folders))}; "
            f"give these folders as the training and the validation set"
        )


def _pictures(class_folder: Path) -> list[Path]:
    """Return the pictures below a class folder, sorted by path."""
    found: list[Path] = []
    broken = 0
    # A folder that links reach twice is read once: that ends loops, and counts nothing twice.
    seen: set[tuple[int, int]] = set()
    waiting = [class_folder]
    while waiting:
        folder = waiting.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(folder):
            path = folder / entry.name
            if entry.is_dir():
                waiting += [path] if entry.name not in _NOT_CLASSES else []
            elif _is_picture(entry):
                found.append(path)
                broken += not entry.is_file()
    if found and broken == len(found):
        raise DataError(
            f"{class_folder}: holds only links that lead nowhere; "
            f"put the pictures back or make the links anew"
        )
    return sorted(found, key=lambda path: path.parts)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted by name, without hidden files."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read: {error.strerror}; check its permissions"
        ) from error
    return sorted(visible, key=lambda entry: entry.name)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Tell pictures from other files by suffix, so that a data set is listed without reading it."""
    path = Path(entry.path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    # A link that leads nowhere stays in the list: reading it fails, and the user hears of it.
    return entry.is_file() or (entry.is_symlink() and not path.exists())


def _formats() -> str:
    return ", ".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
