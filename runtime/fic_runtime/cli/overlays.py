"""Explanations as PNG files: the picture with its heat, above a line that says what is seen."""

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..explaining import Explanation
from ..images import ImageSource, Pixels8
from ..results import cannot_write, check_own_file, whole_file

_BAR_WIDTH = 0.3  # of the picture
_MARK = b"tEXtSoftware\0fic-runtime explain"
_END_OF_HEADER = 33  # bytes: the signature, and the first chunk of any PNG file
_LEAST_WIDTH = 240  # pixels, in which the caption can be read


def write_overlay(out: Path, image: ImageSource, explanation: Explanation) -> None:
    """Write the overlay with its caption as a PNG file that appears whole.

    Raises:
        ImageError: it is not a picture.
        OutputError: the file cannot be written.
    """
    import cv2

    check_overlay(out)
    drawn = with_caption(explanation.overlay(image), explanation)
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))
    try:
        with whole_file(out) as part:
            part.write_bytes(_marked(encoded.tobytes()))
    except OSError as error:
        raise cannot_write(out, error) from error


def check_overlay(out: Path) -> None:
    """Make sure that an overlay may be written at `out`.

    Raises:
        OutputError: a file is there that is no overlay, or it cannot be written.
    """
    check_own_file(out, _is_marked, kind="a heat map")


def _marked(png: bytes) -> bytes:
    """Return a PNG file with a line of text that names the program, after its header."""
    checksum = zlib.crc32(_MARK).to_bytes(4, "big")
    chunk = (len(_MARK) - 4).to_bytes(4, "big") + _MARK + checksum
    return png[:_END_OF_HEADER] + chunk + png[_END_OF_HEADER:]


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        return _MARK in file.read(_END_OF_HEADER + len(_MARK) + 12)


def overlay_file(folder: Path, image: Path, taken: Collection[Path]) -> Path:
    """Return the file in a folder for the overlay of a picture, none of those that are taken."""
    number, file = 1, folder / f"{image.name}.png"
    while file in taken:
        number += 1
        file = folder / f"{image.name}-{number}.png"
    return file


def doubt_of(explanation: Explanation) -> str:
    """Return the mark of a picture that is not known, or nothing."""
    return "  (unknown?)" if explanation.known is False else ""


def with_caption(picture: Pixels8, explanation: Explanation) -> Pixels8:
    """Return a picture, uint8 RGB, above its label, probability and the bar of the colours.

    Letters that OpenCV cannot draw stand there as escapes.
    """
    import cv2

    # A tiny picture grows, or there would be no room to write.
    grown: Any = picture
    if picture.shape[1] < _LEAST_WIDTH:
        times = -(-_LEAST_WIDTH // picture.shape[1])
        size = (picture.shape[1] * times, picture.shape[0] * times)
        grown = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    width = grown.shape[1]
    height = max(24, width // 20)
    strip = np.full((height, width, 3), 255, np.uint8)
    bar = int(width * _BAR_WIDTH)
    ramp = np.linspace(0, 255, bar).round().astype(np.uint8)[None].repeat(height // 2, 0)
    top, margin = height // 4, height // 4
    strip[top : top + len(ramp), width - margin - bar : width - margin] = cv2.applyColorMap(
        ramp, cv2.COLORMAP_TURBO
    )[..., ::-1]
    label = explanation.label.encode("ascii", "backslashreplace").decode("ascii")
    text = f"{label} {explanation.probability:.4f}{doubt_of(explanation)}"
    room = width - bar - 3 * margin
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, height // 24)
    (wide, tall), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(room / wide, height / 2 / tall)
    origin = (margin, (height + int(tall * scale)) // 2)
    cv2.putText(strip, text, origin, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return np.concatenate([grown, strip])
