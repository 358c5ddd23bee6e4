"""Splits written to disk, as links, as copies or by moving."""

import errno
import filecmp
import os
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from fic_runtime.images.headers import SNIFFED, is_picture
from fic_runtime.reading import open_regular
from fic_runtime.results import check_writable, whole_file

from ..errors import DataError
from .dataset import Dataset, Split

_NO_RIGHTS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
)

Mode = Literal["link", "copy", "move"]


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Result of `write_split`: `written` files are new, `unchanged` ones were right before."""

    train: Path
    val: Path
    written: int
    unchanged: int


def write_split(
    split: Split,
    out: str | Path,
    *,
    mode: Mode = "link",
    train_name: str = "train",
    val_name: str = "val",
) -> SplitReport:
    """Write a split as `out/train/<class>/…` and `out/val/<class>/…`.

    Pictures keep their names, and the folders below their class. Everything is looked at before
    anything is written; what is right already is left alone, so a run that was interrupted can be
    repeated. No picture is ever overwritten or deleted; `move` renames, and where the target is
    on another disk it deletes the source once the copy has been compared with it.

    Args:
        split: the pictures of each side.
        out: folder for the two sides, outside the data set; created if need be.
        mode: `link` makes symbolic links, or hard links or copies where the system has none.
        train_name: name of the folder for the training side.
        val_name: name of the folder for the validation side.

    Raises:
        DataError: `out` lies in the data set, or holds other files.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    folder = split.train.folder
    if folder is not None and out.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{out}: lies inside the data set {folder}, where it would be read as a class; "
            f"choose a folder outside"
        )
    sides = {train_name: split.train, val_name: split.val}
    for name in sides:
        check_writable(out / name)
    plan = dict(_plan(out, sides))
    _check_unknown_files(out, sides, plan, mode)
    there = [target for target in plan if os.path.lexists(target)]
    right = {target for target in there if _is_right(Path(target), plan[target], mode)}
    for target in there:
        if target not in right and not _may_replace(Path(target), plan[target]):
            raise DataError(f"{target}: is not the picture {plan[target]}; choose a new folder")
    _write(mode, {target: source for target, source in plan.items() if target not in right})
    return SplitReport(
        train=out / train_name,
        val=out / val_name,
        written=len(plan) - len(right),
        unchanged=len(right),
    )


def check_movable(split: Split, folder: Path) -> None:
    """Make sure that what a list names may be moved: pictures below the folder of the list.

    A list may be a stranger's, and moving takes a file from where it is needed.

    Raises:
        DataError: it names a file elsewhere, or one that is not a picture.
    """
    home = folder.resolve()
    for path in (*split.train.paths, *split.val.paths):
        # The folder and not the file: a link that lies there may be moved, wherever it leads.
        if not path.parent.resolve().is_relative_to(home):
            raise DataError(
                f"{path}: lies outside {folder}, the folder of the list, and is not moved; use "
                "--copy or --link"
            )
        try:
            with open_regular(path) as file:
                start = file.read(SNIFFED)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if not is_picture(start):
            raise DataError(f"{path}: is not a picture and is not moved; remove it from the list")


def _plan(out: Path, sides: dict[str, Dataset]) -> Iterator[tuple[str, Path]]:
    """Yield target and source of each picture; targets as text, which takes a tenth of the time."""
    pictures = sorted(
        (path, dataset.labels[label], side, dataset.folder)
        for side, dataset in sides.items()
        for path, label in zip(dataset.paths, dataset.targets, strict=True)
    )
    for _, name, _, _ in pictures:
        if not name or name.startswith(".") or Path(name).name != name:
            raise DataError(f"{name!r} cannot be the name of a folder; rename this class")
    taken: set[str] = set()
    for source, name, side, folder in pictures:
        wanted = target = "/".join((name, *_below_class(source, folder)))
        number = 1
        # Two files of one name come from a CSV file, or from a file system that tells A from a.
        while (key := unicodedata.normalize("NFC", target).casefold()) in taken:
            number += 1
            stem, suffix = os.path.splitext(wanted)  # noqa: PTH122  # as above
            target = f"{stem}-{number}{suffix}"
        taken.add(key)
        yield os.path.join(out, side, target), source  # noqa: PTH118  # as above


def _below_class(source: Path, folder: Path | None) -> Sequence[str]:
    """Return the parts of a picture's path below its class folder."""
    if folder is None:
        return (source.name,)
    parts = source.parts
    return parts[len(folder.parts) + 1 :]


def _check_unknown_files(
    out: Path, sides: dict[str, Dataset], plan: dict[str, Path], mode: Mode
) -> None:
    for side in (out / name for name in sides):
        if side.is_symlink() or (side.exists() and not side.is_dir()):
            raise DataError(f"{side}: is not a plain folder; choose another folder")
        for root, folders, files in os.walk(side):
            # Through a linked folder, source and target could be one and the same file.
            linked = [name for name in folders if Path(root, name).is_symlink()]
            # What was moved before an interruption is in no plan any more.
            unknown = [
                name
                for name in files
                if mode != "move"
                and not name.startswith(".")
                and os.path.join(root, name) not in plan  # noqa: PTH118  # as in `_plan`
            ]
            for name in linked + unknown:
                raise DataError(
                    f"{Path(root, name)}: is not part of this split; choose a new folder"
                )


def _is_right(target: Path, source: Path, mode: Mode) -> bool:
    if mode == "move" or not target.exists():
        return False
    same_file = target.samefile(source)
    if mode == "copy" and (same_file or target.is_symlink()):
        return False
    return same_file or _same_content(target, source)


def _may_replace(target: Path, source: Path) -> bool:
    """Tell whether nothing is lost when `source` takes the place of what is there."""
    if target.is_symlink() and not target.exists():
        return True
    return _same_content(target, source)


def _same_content(target: Path, source: Path) -> bool:
    return target.is_file() and filecmp.cmp(target, source, shallow=False)


def _write(mode: Mode, plan: dict[str, Path]) -> None:
    """Bring each picture to its target."""
    # Resolved folder by folder: link by link would be most of the time.
    real_folder = cache(os.path.realpath)
    made: set[str] = set()
    for text, source in plan.items():
        target = Path(text)
        try:
            if (parent := os.path.dirname(text)) not in made:  # noqa: PTH120  # as in `_plan`
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(parent)
            if mode == "link":
                _link(source, target, real_folder)
            elif mode == "copy":
                _copy(source, target)
            else:
                _move(source, target)
        except OSError as error:
            raise DataError(
                f"{target}: cannot {mode} {source}: {error.strerror or error}; "
                f"remedy that and run again, what is done already stays"
            ) from error


def _link(
    source: Path, target: Path, real_folder: Callable[[Path], str] = os.path.realpath
) -> None:
    if stat.S_ISLNK(source.lstat().st_mode):
        real = source.resolve(strict=True)
    else:
        real = Path(real_folder(source.parent), source.name)
    # Windows makes symbolic links only for some users, and some disks know no links at all.
    try:
        _make_link(target, lambda place: place.symlink_to(real))
    except OSError:
        try:
            _make_link(target, lambda place: place.hardlink_to(real))
        except OSError:
            _copy(real, target)


def _make_link(target: Path, make: Callable[[Path], object]) -> None:
    try:
        make(target)  # in one step, and never over something
    except FileExistsError:
        _replace(target, make)


def _copy(source: Path, target: Path) -> None:
    _replace(target, lambda part: _copy_with_times(source, part))


def _copy_with_times(source: Path, part: Path) -> None:
    try:
        shutil.copy2(source, part)
    except OSError as error:
        # CIFS, exFAT and cloud drives know no rights, and some no times: the content counts.
        if error.errno not in _NO_RIGHTS or part.stat().st_size != source.stat().st_size:
            raise


def _move(source: Path, target: Path) -> None:
    if source.is_symlink():
        _link(source, target)  # as it stands, a relative link would lead elsewhere
    elif target.exists() and not target.is_symlink():
        # Copied before an interruption. One file under two paths must not be deleted as its copy.
        if target.samefile(source) and source.stat().st_nlink == 1:
            raise OSError("this is one and the same file")
    else:
        try:
            source.replace(target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        _copy(source, target)
        if not _same_content(target, source):
            raise OSError("the copy differs from the source")
    source.unlink()


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    # Never through a link: it may lead to a picture of the data set.
    with whole_file(target, follow_link=False) as part:
        write(part)
