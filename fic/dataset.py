"""Which pictures a data set holds and which class each belongs to."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError

LAYOUT = "a data set is a folder with one folder of pictures per class"

# Folders in which other programs keep thumbnails and resource forks of the real pictures.
_NOT_CLASSES = frozenset({"__MACOSX", "@eaDir"})
_SIDES = frozenset({"train", "val", "valid", "validation", "test"})


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels, in a fixed order.

    Attributes:
        paths: one file per picture.
        labels: for each path the index of its class in `classes`.
        classes: the class names; their order is the order of the model's output.
        folder: the folder that was read, or None for a list of files.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    folder: Path | None = None

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths do not go with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of pictures of each class, in the order of `classes`."""
        counts = [0] * len(self.classes)
        for label in self.labels:
            counts[label] += 1
        return tuple(counts)

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """Return the pictures at these positions, with the same classes."""
        return Dataset(
            tuple(self.paths[index] for index in indices),
            tuple(self.labels[index] for index in indices),
            self.classes,
            self.folder,
        )

    def with_classes(self, classes: Sequence[str]) -> "Dataset":
        """Return the same pictures where `classes`, all of ours among them, are the classes."""
        places = [list(classes).index(name) for name in self.classes]
        labels = tuple(places[label] for label in self.labels)
        return Dataset(self.paths, labels, tuple(classes), self.folder)


@dataclass(frozen=True)
class Split:
    """A data set in two parts that know the same classes."""

    train: Dataset
    val: Dataset


def read_folder(folder: str | Path, *, classes: Sequence[str] | None = None) -> Dataset:
    """List the pictures of a folder whose sub-folders are the classes.

    Class names are in Unicode's composed form (NFC) and sorted by code point, so that every
    system and every file system gives the same labels. Pictures may lie in folders below their
    class. Hidden files are left out, links are followed.

    Args:
        folder: the folder to read.
        classes: the classes of the training set, when this is the validation set: it may lack
            some of them, but may not add any.

    Raises:
        DataError: the folder cannot be read, or does not hold what a data set must.
    """
    folder = Path(folder)
    class_folders = _class_folders(folder)
    if classes is None:
        _require_classes(folder, class_folders)
    elif extra := sorted(set(class_folders) - set(classes)):
        raise DataError(
            f"{folder / extra[0]}: the training set has no class {extra[0]!r}; "
            f"add it to the training set or remove the folder"
        )
    names = tuple(sorted(class_folders) if classes is None else classes)
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = _pictures(class_folders[name]) if name in class_folders else []
        if not found and classes is None:
            raise DataError(
                f"{class_folders[name]}: no pictures of a format that fic reads "
                f"({_formats()}); add some or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(f"{folder}: no pictures of any class; {LAYOUT}")
    return Dataset(tuple(paths), tuple(labels), names, folder)


def is_class_name(name: str) -> bool:
    """Tell whether `name` can stand on a line of `labels.txt`, in UTF-8."""
    return bool(name) and not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name
    )


def _class_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each class by its normalised name."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; {LAYOUT}, or a file of the name *.csv")
    found: dict[str, Path] = {}
    for entry in _entries(folder):
        if not entry.is_dir() or entry.name in _NOT_CLASSES:
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if not is_class_name(name):
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
    from fic_runtime.images import IMAGE_SUFFIXES  # imports NumPy

    path = Path(entry.path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    # A link that leads nowhere stays in the list: reading it fails, and the user hears of it.
    return entry.is_file() or (entry.is_symlink() and not path.exists())


def _formats() -> str:
    from fic_runtime.images import IMAGE_SUFFIXES  # imports NumPy

    return ", ".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
