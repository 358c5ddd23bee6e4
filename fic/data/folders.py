"""Data sets on disk: a folder with one sub-folder of pictures per class."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from fic_runtime.bundle.labels import is_label
from fic_runtime.images.picture_files import (
    IMAGE_SUFFIXES,
    FileUse,
    Walk,
    folder_identity,
    folders_above,
    is_folder,
    is_rubbish,
    leads_above,
    look_at_loose,
    sorted_entries,
    walk,
)

from ..errors import DataError
from ..options import SkipOrFail
from .dataset import Dataset, Skipped
from .sides import paired_sides, side_of, sides_among

LAYOUT = "a data set is a folder with one folder of pictures per class"

# Alone among other folders, these may be a class with folders below it: of trains, of tests.
_MAY_BE_A_CLASS = frozenset({"train", "test", "val", "valid", "dev", "eval", "trn", "tst"})
# Beside a side such a folder is none either: what it holds has no label.
_BESIDE_SIDES = frozenset(
    {"unlabeled", "unlabelled", "unsup", "unsupervised", "pred", "predict", "submission"}
)
_PACKED = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})


def read_folder(
    folder: str | Path,
    *,
    labels: Sequence[str] | None = None,
    on_error: SkipOrFail = "fail",
) -> Dataset:
    """List the pictures of a folder whose sub-folders are the classes.

    Class names are in Unicode's composed form (NFC) and sorted by code point, so that every
    system and every file system gives the same labels. Pictures may lie in folders below their
    class. Which files are pictures is said by `fic_runtime.images.picture_files`.

    Args:
        folder: the folder to read.
        labels: the classes of the training set, when this is the validation set: it may lack
            some of them, but may not add any.
        on_error: whether folders below a class that cannot be read are skipped, or end the reading.

    Raises:
        DataError: the folder cannot be read, or does not hold what a data set must.
    """
    folder = Path(folder)
    class_folders = _class_folders(folder)
    _refuse_sides(folder, class_folders, labels)
    if labels is None:
        _require_classes(folder, class_folders)
    elif extra := sorted(set(class_folders) - set(labels)):
        raise DataError(
            f"{folder / extra[0]}: the training set has no class {extra[0]!r}; "
            f"add it to the training set or remove the folder"
        )
    names = tuple(sorted(class_folders) if labels is None else labels)
    above = {folder_identity(folder), *folders_above(folder)}
    paths: list[Path] = []
    targets: list[int] = []
    total = Walk(left_out=look_at_loose(folder, _entries(folder)))
    for target, name in enumerate(names):
        if name not in class_folders:
            continue
        found = walk(class_folders[name], above=above)
        _check_class(class_folders[name], found, needed=labels is None, on_error=on_error)
        paths += sorted(found.pictures, key=lambda path: path.parts)
        targets += [target] * len(found.pictures)
        total.add(found)
    if not paths:
        raise DataError(f"{folder}: no pictures of any class; {LAYOUT}")
    locked = [Skipped(path, _why_unreadable(path, why)) for path, why in total.unreadable.items()]
    return Dataset(tuple(paths), tuple(targets), names, folder, total.use(), tuple(locked))


def _class_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each class by its normalized name."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    if not folder.is_dir():
        packed = folder.suffix.lower() in _PACKED
        remedy = "unpack it and give the folder" if packed else "or a file of the name *.csv"
        raise DataError(f"{folder}: is a file, not a folder; {LAYOUT}, {remedy}")
    found: dict[str, Path] = {}
    for entry in _entries(folder):
        if is_rubbish(entry.name) or not is_folder(entry) or leads_above(entry):
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


def _require_classes(folder: Path, class_folders: Mapping[str, Path]) -> None:
    if len(class_folders) == 1:
        [(name, only)] = class_folders.items()
        hint = f"; is {only} the data set?" if len(_class_folders(only)) > 1 else f"; {LAYOUT}"
        raise DataError(f"{folder}: needs at least two class folders, found 1 ({name}){hint}")
    if not class_folders:
        loose = any(
            each.kind.startswith("loose") for each in look_at_loose(folder, _entries(folder))
        )
        found = "pictures but no class folders" if loose else "no class folders"
        raise DataError(
            f"{folder}: holds {found}; {LAYOUT}, for example {folder / 'roses' / '1.jpg'}"
        )


def _refuse_sides(
    folder: Path, class_folders: Mapping[str, Path], labels: Sequence[str] | None
) -> None:
    """Refuse sides of a split as classes: a classifier of "Training" against "Testing".

    Classes may be called so all the same, if they hold pictures and not folders of classes.
    """
    others = [name for name in class_folders if name not in (labels or ())]
    pairs = paired_sides(others)
    named = [name for name in others if side_of(name) or name in pairs]
    below = {name: set(_folders_in(class_folders[name])) for name in named}
    nested = [name for name in named if below[name]]
    if not nested or (len(named) == 1 and not _looks_split(named[0], below, class_folders)):
        return
    found = sides_among(named)
    train, val = found.get("train"), found.get("val") or found.get("test")
    pair = f" (--train {folder / train} --val {folder / val})" if train and val else ""
    raise DataError(
        f"{folder}: is already split into {' and '.join(sorted(named))}; give these folders as the "
        f"training and the validation set{pair}, or one of them alone"
    )


def _looks_split(
    name: str, below: Mapping[str, set[str]], class_folders: Mapping[str, Path]
) -> bool:
    """Tell whether the only folder that is named like a side is one, and no class of trains."""
    if name.casefold() not in _MAY_BE_A_CLASS:
        return True
    if any(other.casefold() in _BESIDE_SIDES for other in class_folders):
        return True
    return any(
        len(below[name].intersection(_folders_in(path))) > 1
        for other, path in class_folders.items()
        if other != name
    )


def _folders_in(folder: Path) -> list[str]:
    return [
        entry.name for entry in _entries(folder) if not is_rubbish(entry.name) and is_folder(entry)
    ]


def _check_class(folder: Path, found: Walk, *, needed: bool, on_error: SkipOrFail) -> None:
    """Refuse a class that cannot be used as it is found."""
    if on_error == "fail" or (needed and not found.pictures):
        for locked, error in found.unreadable.items():
            raise DataError(_why_unreadable(locked, error)) from error
    if not found.pictures and needed:
        unused = FileUse(left_out=tuple(found.left_out))
        kinds = unused.kinds()
        others = f", but {kinds}" if kinds else ""
        raise DataError(
            f"{folder}: no pictures of a format that fic reads ({_formats()}){others}; "
            f"add some or remove the folder{unused.remedy()}"
        )
    if found.pictures and all(map(_is_broken_link, found.pictures)):
        raise DataError(
            f"{folder}: holds only links that lead nowhere; "
            f"put the pictures back or make the links anew"
        )
    parts = {part for parent in found.parents for part in parent.relative_to(folder).parts}
    if len(sides := sides_among(sorted(parts))) > 1:
        raise DataError(
            f"{folder}: is already split into {' and '.join(sorted(sides.values()))} inside the "
            "class; give a CSV file with the columns path,label,split, which says each picture's "
            "side, or put the classes into the folders of the sides"
        )


def _is_broken_link(path: Path) -> bool:
    # Of what lies in a locked folder nothing can be told: reading it says so.
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114 # Path's raise


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted_entries(folder)
    except OSError as error:
        raise DataError(_why_unreadable(folder, error)) from error


def _why_unreadable(folder: Path, error: OSError) -> str:
    return f"{folder}: cannot be read: {error.strerror}; check its permissions"


def _formats() -> str:
    return ", ".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
