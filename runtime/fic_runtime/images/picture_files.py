"""Which files a user means by a list of files and folders, and what becomes of the others.

The one rule by which all commands of fic and fic-runtime list pictures. Links are followed, except
back into a folder above. A file is a picture by its suffix, or else by its first bytes. Whatever
is not used is counted by its kind, so that nobody misses it without a word.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from ..errors import ImageError, printable
from .headers import SNIFFED, is_picture, other_format
from .loading import is_pattern, read_file

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"}
    | {".tif", ".tiff", ".avif", ".pbm", ".pgm", ".ppm", ".pnm"}
)

# Where systems, disk stations and editors keep thumbnails, deleted files and forks of real ones;
# like hidden files they are never meant. In lower case: some systems tell A from a, others do not.
_RUBBISH = frozenset(
    {"__macosx", "@eadir", "@__thumb", "@recycle", "@recently-snapshot", "@tmp", "#recycle"}
    | {"#snapshot", "$recycle.bin", "system volume information", "lost+found", "found.000"}
    | {"network trash folder", "temporary items", "__pycache__", "thumbs.db", "ehthumbs.db"}
    | {"ehthumbs_vista.db", "desktop.ini", "icon\r"}
)
# Halves of downloads and copies that programs keep: pictures by their content, and never meant.
_REMAINDERS = frozenset(
    {".bak", ".backup", ".old", ".orig", ".tmp", ".temp", ".part", ".partial", ".crdownload"}
    | {".download", ".filepart", ".swp"}
)
# Raw photos of cameras: TIFF by their first bytes, with samples that no decoder here reads.
_RAW = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef"}
    | {".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
_HEIC = frozenset({".heic", ".heif", ".hif", "HEIC"})
_HIDDEN = "hidden"
_LOOP = "link to a folder above"
LOOSE = "loose picture beside the class folders"
_PLURALS = {
    LOOSE: "loose pictures beside the class folders",
    "broken link": "broken links",
    _LOOP: "links to a folder above",
}
_MOST_KINDS = 6  # in one line
_LONGEST_SUFFIX = 24  # characters

Identity = tuple[int, int] | str
"""Of a folder, whatever links lead to it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that was found and is not used; `kind` says why in a few words, such as `.heic`."""

    path: Path
    kind: str


@dataclass(frozen=True)
class FileUse:
    """What became of the files that were found.

    Attributes:
        used: how many of them are taken for pictures.
        by_content: those of them that are pictures by their first bytes and not by their names.
        left_out: the others, but for what systems keep for themselves.
    """

    used: int = 0
    by_content: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __add__(self, other: "FileUse") -> "FileUse":
        return FileUse(
            self.used + other.used,
            self.by_content + other.by_content,
            self.left_out + other.left_out,
        )

    def line(self) -> str:
        """Return one line for the user; nothing where every file is used and named like it."""
        if not (self.by_content or self.left_out):
            return ""
        text = f"Used {self.used} of {self.used + len(self.left_out)} files"
        if self.by_content:
            named = _counted(Counter(suffix_kind(path.name) for path in self.by_content))
            text += f", {len(self.by_content)} of them pictures by content only: {named}"
        if self.left_out:
            text += f"; left out: {self.kinds()}"
        return text + self.remedy()

    def remedy(self) -> str:
        """Return how to make use of what is left out, as the end of a sentence, or nothing."""
        if any(each.kind in _HEIC for each in self.left_out):
            return "; convert HEIC to JPEG first, with heif-convert or, on macOS, sips"
        return ""

    def kinds(self) -> str:
        """Return what is left out, by kind: `3 .heic, 1 without a suffix`."""
        return _counted(Counter(each.kind for each in self.left_out))

    def details(self) -> Iterator[str]:
        """Yield a line for each file that is left out, or used for its content."""
        for each in self.left_out:
            yield printable(f"left out: {each.path} ({each.kind})")
        for path in self.by_content:
            yield printable(f"a picture by content only: {path}")


@dataclass(frozen=True)
class Listing:
    """The pictures that a list of files and folders means, in order, and what became of all files.

    A folder that cannot be entered, or holds no picture, stands among the pictures itself:
    reading it says what is wrong, at its place, and the others are answered.
    """

    pictures: tuple[Path, ...]
    files: FileUse

    def __iter__(self) -> Iterator[Path]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)


def find_pictures(arguments: Iterable[str | Path]) -> list[Path]:
    """Return the pictures of `list_pictures` alone.

    Raises:
        ImageError: see `list_pictures`.
    """
    return list(list_pictures(arguments).pictures)


def list_pictures(arguments: Iterable[str | Path]) -> Listing:
    """Return the files named, and for each folder the pictures below it in natural order.

    A name that is not a file but has one of `*?[` in it is a pattern, as in a shell, and `**`
    stands for any folders: not every shell expands it. Hidden files and folders, whose
    names begin with a dot, are left out.

    Raises:
        ImageError: a name is empty, or all that is named are folders and patterns without a
            picture.
    """
    pictures: list[Path] = []
    total = Walk()
    named = 0
    for argument in arguments:
        found = _matches(argument)
        if not found:
            pictures.append(Path(argument))  # reading it says that nothing fits the pattern
        for path in found:
            if not _is_folder(path):
                pictures.append(path)
                named += 1
                continue
            walked = walk(path)
            total.add(walked)
            pictures += sorted([*walked.pictures, *walked.unreadable], key=natural_key) or [path]
    use = total.use()
    use = FileUse(use.used + named, use.by_content, use.left_out)
    if pictures and not use.used:
        raise _no_picture(pictures[0], total)
    return Listing(tuple(pictures), use)


@dataclass
class Walk:
    """What lies below a folder: pictures in no particular order, other files, and what is locked.

    `unreadable` are the folders that cannot be entered; `parents` those in which pictures lie.
    """

    pictures: list[Path] = field(default_factory=list)
    by_content: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unreadable: dict[Path, OSError] = field(default_factory=dict)
    parents: list[Path] = field(default_factory=list)

    def use(self) -> FileUse:
        """Return what became of the files."""
        return FileUse(len(self.pictures), tuple(self.by_content), tuple(self.left_out))

    def add(self, other: "Walk") -> None:
        """Take over all that another walk found."""
        self.pictures += other.pictures
        self.by_content += other.by_content
        self.left_out += other.left_out
        self.unreadable |= other.unreadable
        self.parents += other.parents


def walk(folder: Path, *, above: Collection[Identity] = ()) -> Walk:
    """Find the pictures below a folder.

    A folder that links reach twice is read once: that ends loops, and counts nothing twice.

    Args:
        folder: where to look; hidden or not, it is meant.
        above: folders above it, besides its own parents, into which no link is followed.
    """
    found = Walk()
    ancestors = {*above, *folders_above(folder)}
    seen: set[Identity] = set()
    waiting, linked = [folder], list[Path]()
    while waiting or linked:
        # Links last, so that a folder that is reached twice has its own name.
        current = (waiting or linked).pop()
        try:
            identity = folder_identity(current)
            if identity in ancestors:
                found.left_out.append(LeftOut(current, _LOOP))
                continue
            if identity in seen:
                continue
            seen.add(identity)
            entries = sorted_entries(current)
        except OSError as error:
            found.unreadable[current] = error
            continue
        before = len(found.pictures)
        for entry in entries:
            if (below := _look_at(entry, current, found)) is not None:
                (linked if entry.is_symlink() else waiting).append(below)
        if len(found.pictures) > before:
            found.parents.append(current)
    return found


def look_at_loose(folder: Path, entries: Iterable[os.DirEntry[str]]) -> list[LeftOut]:
    """Return what is left out of a folder of class folders: all files that lie beside them."""
    found = Walk()
    for entry in entries:
        if is_rubbish(entry.name) or not is_folder(entry):
            _look_at(entry, folder, found)
        elif leads_above(entry):
            found.left_out.append(LeftOut(folder / entry.name, _LOOP))
    loose = [LeftOut(path, LOOSE) for path in found.pictures]
    return [*found.left_out, *loose]


def sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted by name.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_rubbish(name: str) -> bool:
    """Tell whether a file or folder is hidden, or one that systems keep for themselves."""
    return name.startswith(".") or name.lower() in _RUBBISH


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or leads to one; a link that loops does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def leads_above(entry: os.DirEntry[str]) -> bool:
    """Tell whether a folder is a link to one of those that it lies in."""
    if not entry.is_symlink():
        return False
    real = os.path.realpath(entry.path)
    return Path(os.path.realpath(Path(entry.path).parent)).is_relative_to(real)


def folder_identity(folder: Path) -> Identity:
    """Return what tells a folder from all others, by whatever links it is reached.

    Raises:
        OSError: it cannot be looked at.
    """
    status = folder.stat()
    # Some network file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def folders_above(folder: Path) -> set[Identity]:
    """Return the folders above one, by its name and by where its links lead."""
    found: set[Identity] = set()
    real = Path(os.path.realpath(folder))
    for parent in {*folder.absolute().parents, *real.parents}:
        try:
            found.add(folder_identity(parent))
        except OSError:
            continue  # nothing below it could be read either
    return found


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key under which `img2` stands before `img10`; no two paths share one."""
    parts = re.split(r"(\d+)", str(path))
    numbered = [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
    return [*numbered, (0, 0, str(path))]


def suffix_kind(name: str) -> str:
    """Return a file's suffix as it is shown: in quotes where it holds anything odd."""
    _, dot, suffix = name.rpartition(".")
    if not dot:
        return "without a suffix"
    if suffix.isascii() and suffix.isalnum() and len(suffix) <= _LONGEST_SUFFIX:
        return f".{suffix.lower()}"
    shown = suffix if len(suffix) <= _LONGEST_SUFFIX else f"{suffix[:_LONGEST_SUFFIX]}…"
    return repr(f".{shown}")


def _look_at(entry: os.DirEntry[str], folder: Path, found: Walk) -> Path | None:
    """Put a file where it belongs; return a folder that is to be looked into."""
    name, path = entry.name, folder / entry.name
    if is_rubbish(name):
        _count_rubbish(entry, path, found)
        return None
    if is_folder(entry):
        return path
    suffix = _suffix(name)
    mode = _mode(entry)
    if mode is not None and not stat.S_ISREG(mode):
        found.left_out.append(LeftOut(path, "no plain file"))
    elif suffix in IMAGE_SUFFIXES:
        # A link that leads nowhere stays in the list: reading it fails, and the user hears of it.
        found.pictures.append(path)
    elif mode is None:
        found.left_out.append(LeftOut(path, "broken link"))
    elif kind := _other_kind(path, suffix):
        found.left_out.append(LeftOut(path, kind))
    else:
        found.pictures.append(path)
        found.by_content.append(path)
    return None


def _other_kind(path: Path, suffix: str) -> str:
    """Return the kind of a file that is not named like a picture; nothing if it is one."""
    if suffix in _REMAINDERS or suffix in _RAW or path.name.endswith("~"):
        return suffix_kind(path.name)
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(SNIFFED)
    except (OSError, ValueError):
        start = b""
    if is_picture(start):
        return ""
    kind = suffix_kind(path.name)
    return "HEIC" if kind not in _HEIC and other_format(start) == "HEIC" else kind


def _count_rubbish(entry: os.DirEntry[str], path: Path, found: Walk) -> None:
    """Count the pictures among what is never meant; the rest is nobody's loss."""
    kind = _HIDDEN if entry.name.startswith(".") else f"in {entry.name}"
    if not entry.is_dir(follow_symlinks=False):
        if _suffix(entry.name) in IMAGE_SUFFIXES:
            found.left_out.append(LeftOut(path, kind))
        return
    for root, _, files in os.walk(path):
        found.left_out += [
            LeftOut(Path(root, name), kind) for name in files if _suffix(name) in IMAGE_SUFFIXES
        ]


def _no_picture(path: Path, walked: Walk) -> ImageError:
    """Return the error for folders and patterns none of which has a picture; the first is named."""
    if path in walked.unreadable or not _is_folder(path):
        try:
            read_file(path)
        except ImageError as error:
            return error
    kinds = walked.use().kinds()
    others = f" (left out: {kinds})" if kinds else ""
    return ImageError(f"{path}: no pictures in this folder; give image files or folders{others}")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # a tenth of Path's time


def _mode(entry: os.DirEntry[str]) -> int | None:
    """Return what kind of file an entry is, or leads to; None for a link that leads nowhere."""
    try:
        if entry.is_file(follow_symlinks=False):
            return stat.S_IFREG  # known from the folder itself
        return entry.stat().st_mode
    except OSError:
        return None


def _counted(kinds: Counter[str]) -> str:
    """Return numbers and kinds, the most frequent first."""
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) > _MOST_KINDS + 1:
        rest = sum(number for _, number in ranked[_MOST_KINDS:])
        ranked = [*ranked[:_MOST_KINDS], ("of other kinds", rest)]
    return ", ".join(
        f"{number} {_PLURALS.get(kind, kind) if number > 1 else kind}" for kind, number in ranked
    )


def _matches(name: str | Path) -> list[Path]:
    if not str(name):
        raise ImageError("a path is empty; is a variable unset? Give image files or folders")
    path = Path(name)
    # lexists: a broken link is there, and reading it says what is wrong with it.
    if not is_pattern(path) or os.path.lexists(path):
        return [path]
    # Not Path.glob: it takes no absolute patterns.
    names = glob(str(path), recursive=True)  # noqa: PTH207
    return sorted(map(Path, names), key=natural_key)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: reading it as a picture says so
        return False
