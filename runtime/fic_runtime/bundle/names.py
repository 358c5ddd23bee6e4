"""Names and sizes that a file of a bundle may have; needs only the standard library."""

from collections.abc import Iterable

from .labels import is_label

# Of a file that is read whole. Graphs have less than 2 GB, which is the most that protobuf takes.
MOST_BYTES = 1 << 31
# Of the weights beside a graph, which are looked through and never read whole by Python.
MOST_WEIGHTS = 1 << 35
_MOST_CHARACTERS = 255
_NEVER = frozenset("/\\:")  # separators and drives; control characters are none of a label


def is_file_name(name: object) -> bool:
    """Return whether this is a plain name in the bundle's own folder, on every system.

    No separator, drive or parent can leave the folder, and nothing at its end is dropped: Windows
    takes `a.` and `a ` for `a`.
    """
    return (
        isinstance(name, str)
        and is_label(name)
        and len(name) <= _MOST_CHARACTERS
        and not _NEVER & set(name)
        and name[-1] not in ". "
    )


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that some file system takes for one, if there are any.

    macOS and Windows know no difference in case, and macOS none in the form of accents.
    """
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(_folded(name), name)
        if other is not name:
            return other, name
    return None


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower().rstrip(". ")
    from unicodedata import normalize

    return normalize("NFC", normalize("NFC", name).casefold()).rstrip(". ")
