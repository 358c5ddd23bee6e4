"""Thumbnails of pictures, remembered by content: what reports show and what an audit looks at."""

import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fic_runtime.devices import usable_cpus
from fic_runtime.errors import ImageError
from fic_runtime.images import decode_image
from fic_runtime.images.headers import read_header
from fic_runtime.images.loading import MAX_BYTES
from fic_runtime.preprocessing import Geometry

from .memo import Memo, Table, batches
from .remote import local

SIDE = 128
"""Pixels of the longer side of a thumbnail."""

_QUALITY = 80
# For the choice of the scale at which a JPEG is decoded: no smaller than the thumbnail.
_GEOMETRY = Geometry(height=SIDE, width=SIDE, jpeg_margin=1.0)
_TABLE = Table(
    "thumbnails",
    ("digest BLOB", "format TEXT", "width INTEGER", "height INTEGER", "jpeg BLOB"),
    "thumbnails",
)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture made small, and what its file says.

    Attributes:
        format: of the file, such as `JPEG`, whatever its name ends in.
        width: of the whole picture in pixels, upright.
        height: likewise.
        jpeg: the small picture, at most `SIDE` pixels on a side.
    """

    format: str
    width: int
    height: int
    jpeg: bytes


def read_thumbnails(
    paths: Iterable[Path],
    digests: Mapping[Path, bytes],
    memo: Path | None,
    *,
    progress: Callable[[int], object] | None = None,
) -> dict[Path, Thumbnail]:
    """Return the thumbnail of each file that is a picture, made where the memo has none.

    Args:
        digests: of the content of each of these files.
        memo: SQLite file of the thumbnails, made if it does not exist; None remembers nothing. In
            a cache at a URL it is a file of this machine.
        progress: called with the number of files that were just resolved.
    """
    table = None if memo is None else Memo.open(local(memo), _TABLE)
    found: dict[Path, Thumbnail] = {}
    try:
        with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="thumbnail") as pool:
            for batch in batches(dict.fromkeys(paths)):
                files = {digests[path]: path for path in batch}
                known = {} if table is None else _known(table, list(files))
                missing = {digest: path for digest, path in files.items() if digest not in known}
                fresh = dict(zip(missing, pool.map(_make, missing.values()), strict=True))
                rows = [
                    (digest, one.format, one.width, one.height, one.jpeg)
                    for digest, one in fresh.items()
                    if one is not None
                ]
                if table is not None and rows:
                    table.remember(rows)
                for path in batch:
                    one = known.get(digests[path]) or fresh.get(digests[path])
                    if one is not None:
                        found[path] = one
                if progress is not None:
                    progress(len(batch))
    finally:
        if table is not None:
            table.close()
    return found


def thumbnail_reader(
    digests: Mapping[Path, bytes], memo: Path | None
) -> Callable[[Iterable[Path]], dict[Path, bytes]]:
    """Return a function that gives the small JPEG file of each picture that is still there.

    Args:
        digests: of the content of the pictures; one that is missing here has no thumbnail.
        memo: see `read_thumbnails`.
    """

    def read(paths: Iterable[Path]) -> dict[Path, bytes]:
        known = [path for path in paths if path in digests]
        return {path: one.jpeg for path, one in read_thumbnails(known, digests, memo).items()}

    return read


def _known(table: Memo, digests: list[bytes]) -> dict[bytes, Thumbnail]:
    return {
        digest: Thumbnail(str(format), int(width), int(height), bytes(jpeg))
        for digest, (format, width, height, jpeg) in table.look_up(digests).items()
    }


def _make(path: Path) -> Thumbnail | None:
    """Return the thumbnail of a file, or None if it is not a picture or gone."""
    import cv2

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        data = path.read_bytes()
        header = read_header(data, name=str(path))
        pixels: Any = decode_image(data, name=str(path), geometry=_GEOMETRY)
    except (OSError, ValueError, ImageError):
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    written, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not written:
        return None
    turned = header.orientation >= 5
    whole = (header.height, header.width) if turned else (header.width, header.height)
    return Thumbnail(header.format, *whole, jpeg.tobytes())
