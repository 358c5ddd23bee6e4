"""Files that others made: opened without waiting, regular ones alone, and read to a limit.

A name that somebody else chose may lead to a pipe that never ends, to a device, or to a file that
grows while it is read. Whatever is read of others goes through here; folders whose content is
believed are looked at as OpenSSH looks at those of keys.
"""

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from io import FileIO

AnyPath: TypeAlias = "str | os.PathLike[str]"

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)  # of Windows
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody writes opens at once
    | getattr(os, "O_NOCTTY", 0)
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_MOST_LINKS = 40  # as Linux has it
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def open_regular(path: AnyPath, *, follow_link: bool = True) -> "FileIO":
    """Open a file that must be a regular one, for reading.

    Args:
        path: the file.
        follow_link: take the file that `path` leads to, where it is a link.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device, a folder, or a link that may not be
            followed; `strerror` says which.
        ValueError: no file can have this name.
    """
    descriptor = os.open(path, _FLAGS if follow_link else _FLAGS | _NO_LINK)
    try:
        _check_regular(os.fstat(descriptor), path)
        # Not buffered: whole files are read, by pieces of a size that the reader chooses.
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(
    path: AnyPath, limit: int, *, follow_link: bool = True, private: bool = False
) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Of a file that grows, or says that it is shorter than it is, one byte more than `limit` is read
    at most. One that says that it is empty is not read: those of /proc do, and some never end.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        follow_link: see `open_regular`.
        private: refuse a file that is not `is_private`.

    Raises:
        OSError: see `open_regular`; or the file is larger, with EFBIG as `errno`, or not private.
        ValueError: no file can have this name.
    """
    with open_regular(path, follow_link=follow_link) as file:
        status = os.fstat(file.fileno())
        if private:
            check_private(status, path)
        size = status.st_size
        if size > limit:
            raise too_large(path, limit)
        if not size:
            return b""
        content = file.read(size + 1) or b""
        if len(content) == size:  # whole, as nearly always: asked once more, it gave nothing
            return content
        pieces = [content]
        read = len(content)
        while read <= limit and (piece := file.read(min(1 << 20, limit + 1 - read))):
            pieces.append(piece)
            read += len(piece)
    if read > limit:
        raise too_large(path, limit)
    return b"".join(pieces)


def read_json(path: AnyPath, limit: int, *, follow_link: bool = True) -> Any:
    """Return the JSON values of a regular file of at most `limit` bytes, in UTF-8.

    Raises:
        OSError: see `read_regular`.
        ValueError: it is not JSON, or nested more deeply than anything that is meant to be read.
    """
    text = read_regular(path, limit, follow_link=follow_link).decode("utf-8-sig")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def too_large(path: AnyPath, limit: int) -> OSError:
    """Return the error of a file that has more bytes than it may have."""
    return OSError(errno.EFBIG, f"it has more than {limit} bytes", os.fspath(path))


def is_private(status: os.stat_result) -> bool:
    """Return whether a file or folder is this user's or root's, and nobody else may write it.

    Where the system knows no owners in this form, as Windows, it is taken for private.
    """
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & _OTHERS


def check_private(status: os.stat_result, path: AnyPath) -> None:
    """Make sure that a file or folder `is_private`.

    Raises:
        OSError: it is not; `strerror` says why.
    """
    if not is_private(status):
        raise _not_private(os.fspath(path), status)


def private_folder(path: AnyPath) -> str:
    """Return the path of a folder without links in it, if nobody else can change what is there.

    As OpenSSH's StrictModes has it: the folder is this user's or root's and nobody else may write
    it, nor put another in its place, in any folder or by any link on the way to it. There a folder
    with the sticky bit, such as /tmp, will do, and one for a user's own group, of the same number.

    Raises:
        OSError: it is another's, or others may write it; `strerror` and `filename` say what.
    """
    if not hasattr(os, "geteuid"):
        return os.path.realpath(path)
    found, status, links = "/", os.stat("/"), 0  # noqa: PTH116 # of each start: quicker than Path's
    ahead = os.path.abspath(path).split("/")[:0:-1]  # noqa: PTH100 # the next name comes last
    while ahead:
        if not (is_private(status) or _keeps_mine(status)):
            raise _not_private(found, status)
        name = ahead.pop()
        if name in ("", "."):
            continue
        if name == "..":
            found = os.path.dirname(found)  # noqa: PTH120 # which was looked at before
            status = os.stat(found)  # noqa: PTH116
            continue
        next_one = os.path.join(found, name)  # noqa: PTH118
        inner = os.lstat(next_one)
        if not stat.S_ISLNK(inner.st_mode):
            found, status = next_one, inner
            continue
        links += 1
        if inner.st_uid not in (os.geteuid(), 0):
            raise _not_private(next_one, inner)
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        target = os.readlink(next_one)  # noqa: PTH115
        ahead += target.split("/")[::-1]
        if target.startswith("/"):
            found, status = "/", os.stat("/")  # noqa: PTH116
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), found)
    if not is_private(status):
        raise _not_private(found, status)
    return found


def _keeps_mine(status: os.stat_result) -> bool:
    """Return whether others can exchange nothing of this user's in a folder that they may write."""
    own_group = status.st_gid == status.st_uid and not status.st_mode & stat.S_IWOTH
    owned = status.st_uid in (os.geteuid(), 0)
    return owned and (own_group or bool(status.st_mode & stat.S_ISVTX))


def _not_private(folder: str, status: os.stat_result) -> OSError:
    reason = "others may write to it"
    if status.st_uid not in (os.geteuid(), 0):
        reason = "it belongs to somebody else"
    return PermissionError(errno.EACCES, reason, folder)


def _check_regular(status: os.stat_result, path: AnyPath) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
