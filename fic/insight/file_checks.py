"""Files that are not what they seem: unreadable, tiny, of one color, or of another format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fic_runtime.images.picture_files import LeftOut

from ..data.dataset import Skipped
from ..data.thumbnails import Thumbnail

FileTrouble = Literal["unreadable", "tiny", "one color", "other format", "left out"]

TINY = 48
"""Pixels: a picture with a shorter side is tiny, a third of what the smallest base looks at."""

_ONE_COLOR = 2.0  # standard deviation of gray levels 0..255; JPEG's noise stays below
_SUFFIXES: Mapping[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    "PNG": frozenset({".png", ".apng"}),
    "GIF": frozenset({".gif"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "WebP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "AVIF": frozenset({".avif"}),
    "PNM": frozenset({".pbm", ".pgm", ".ppm", ".pnm"}),
}


@dataclass(frozen=True, kw_only=True)
class FileProblem:
    """A file and what is wrong with it, in a word and in a sentence."""

    path: Path
    problem: FileTrouble
    reason: str


def check_files(
    paths: Sequence[Path],
    thumbnails: Mapping[Path, Thumbnail],
    skipped: Sequence[Skipped],
    left_out: Sequence[LeftOut] = (),
) -> list[FileProblem]:
    """Return what is wrong with files, the unreadable ones first.

    Args:
        paths: of the pictures that could be read.
        thumbnails: of these pictures.
        skipped: files that could not be read, with the reason.
        left_out: files that were found and are not used.
    """
    found = [
        FileProblem(path=each.path, problem="unreadable", reason=each.reason) for each in skipped
    ]
    for path in paths:
        if path in thumbnails:
            found += _problems(path, thumbnails[path])
    for each in left_out:
        reason = f"{each.path}: is not used ({each.kind}); convert it or leave it"
        found.append(FileProblem(path=each.path, problem="left out", reason=reason))
    return found


def _problems(path: Path, thumbnail: Thumbnail) -> list[FileProblem]:
    found = []
    width, height = thumbnail.width, thumbnail.height
    if min(width, height) < TINY:
        reason = f"{path}: has {width} x {height} pixels; take a larger picture"
        found.append(FileProblem(path=path, problem="tiny", reason=reason))
    if _is_of_one_color(thumbnail):
        reason = f"{path}: is of one color; leave it out"
        found.append(FileProblem(path=path, problem="one color", reason=reason))
    own = _SUFFIXES.get(thumbnail.format, frozenset())
    if path.suffix.lower() not in own:
        reason = f"{path}: holds a {thumbnail.format} picture; rename it or convert it"
        found.append(FileProblem(path=path, problem="other format", reason=reason))
    return found


def _is_of_one_color(thumbnail: Thumbnail) -> bool:
    import cv2

    data = np.frombuffer(thumbnail.jpeg, np.uint8)
    pixels: Any = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_2)
    if pixels is None:
        return False
    _, deviations = cv2.meanStdDev(pixels)  # much faster than NumPy's
    return float(deviations.max()) < _ONE_COLOR
