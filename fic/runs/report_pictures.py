"""The pictures of a report: a map by their bottlenecks, and galleries of mistakes and doubts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import page
from .page import Charts, Item, Section
from .run import ValidationRow

ReadThumbnails = Callable[[Sequence[Path]], Mapping[Path, bytes]]
"""Returns small JPEG files of pictures, without those that are gone."""

MOST_ON_MAP = 400
_GALLERY = 24
_TILE = 64  # pixels of a picture on the map
_TILES_IN_A_ROW = 20


@dataclass(frozen=True, kw_only=True)
class ReportPictures:
    """What a report shows of the validation pictures beside their figures.

    Attributes:
        thumbnails: reads small versions of them.
        shown: positions in the validation of the pictures on the map, at most `MOST_ON_MAP`.
        bottlenecks: of these pictures, (len(shown), width).
    """

    thumbnails: ReadThumbnails
    shown: Sequence[int] = ()
    bottlenecks: NDArray[Any] | None = None


@dataclass(frozen=True)
class Limits:
    """How many pictures a page has room for."""

    gallery: int = _GALLERY
    tiles: int = MOST_ON_MAP

    def divided(self, share: int) -> "Limits":
        """Return limits under which the pictures of both kinds take that part of the room."""
        return Limits(self.gallery // share, self.tiles // (share * share))


def pictures_on_map(count: int) -> list[int]:
    """Return the positions of at most `MOST_ON_MAP` of `count` pictures, from all parts of them."""
    places = np.linspace(0, count - 1, min(count, MOST_ON_MAP)).astype(int)
    return [int(place) for place in np.unique(places)]


def paths_to_show(
    validation: Sequence[ValidationRow], pictures: ReportPictures | None
) -> list[Path]:
    """Return the files of all pictures that a report may show."""
    shown = () if pictures is None else pictures.shown
    return [
        *(row.path for row in _worst_mistakes(validation)),
        *(row.path for row in _least_certain(validation)),
        *(validation[index].path for index in shown),
    ]


def map_section(
    validation: Sequence[ValidationRow],
    pictures: ReportPictures | None,
    thumbnails: Mapping[Path, bytes],
    limits: Limits,
    charts: Charts,
) -> list[Section]:
    """Return the map of the pictures, nothing where the cache has no bottlenecks of them."""
    if pictures is None or pictures.bottlenecks is None or len(pictures.shown) < 3:
        return []
    rows = [validation[index] for index in pictures.shown]
    places = on_a_plane(np.asarray(pictures.bottlenecks, np.float32))
    tiles, tile_of = _tiled([row.path for row in rows], thumbnails, limits.tiles)
    charts.tiles = tiles
    points = [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "label": page.shortened(row.label),
            "right": row.predicted == row.label,
            "tile": tile_of.get(row.path),
            "lines": _said(row),
        }
        for row, (x, y) in zip(rows, places, strict=True)
    ]
    chart = charts.add(
        "map",
        {"kind": "map", "points": points},
        label=f"map of {len(points)} validation pictures; arrow keys go from one to the next",
        caption="Pictures whose bottlenecks are alike lie near each other (two principal "
        "components). Crosses are mistakes. Point at one to see it, or use the arrow keys.",
    )
    return [Section(id="map", title="Map of the pictures", body=chart, short="Map")]


def galleries(
    validation: Sequence[ValidationRow], thumbnails: Mapping[Path, bytes], limits: Limits
) -> list[Section]:
    """Return the most confident mistakes, and the pictures with the least certain answers."""
    if not validation:
        return []
    mistakes = _worst_mistakes(validation)[: limits.gallery]
    doubtful = _least_certain(validation)[: limits.gallery]
    worst = (
        page.gallery(_item(row, thumbnails) for row in mistakes)
        if mistakes
        else page.paragraph("None.")
    )
    return [
        Section(
            id="mistakes",
            title="Most confident mistakes",
            short="Mistakes",
            body=page.paragraph("Wrong answers, the most confident first. Is the label right?")
            + worst,
        ),
        Section(
            id="doubtful",
            title="Least certain pictures",
            short="Least certain",
            body=page.paragraph("Answers with the least confidence, right or wrong.")
            + page.gallery(_item(row, thumbnails) for row in doubtful),
        ),
    ]


def on_a_plane(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the two principal components of bottlenecks scaled to length 1, (n, 2)."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, 1e-12)
    unit = unit - unit.mean(axis=0)
    basis = np.random.default_rng(0).standard_normal((unit.shape[1], min(8, unit.shape[1])))
    basis = basis.astype(unit.dtype)
    for _ in range(8):  # subspace iteration: no square matrix of 1280 columns is needed
        basis, _ = np.linalg.qr(unit.T @ (unit @ basis))
    projected = unit @ basis
    _, turn = np.linalg.eigh(projected.T @ projected)
    plane = (projected @ turn)[:, ::-1][:, :2]
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def _tiled(
    paths: Sequence[Path], thumbnails: Mapping[Path, bytes], most: int
) -> tuple[Mapping[str, Any] | None, dict[Path, int]]:
    """Return one picture of the thumbnails side by side, and the number of each one's tile."""
    import cv2

    chosen = [path for path in dict.fromkeys(paths) if path in thumbnails]
    chosen = chosen[:: max(1, -(-len(chosen) // most))] if most else []
    if not chosen:
        return None, {}
    lines = -(-len(chosen) // _TILES_IN_A_ROW)
    sheet = np.full((lines * _TILE, _TILES_IN_A_ROW * _TILE, 3), 127, np.uint8)
    for number, path in enumerate(chosen):
        data = np.frombuffer(thumbnails[path], np.uint8)
        pixels: Any = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_2)
        if pixels is None:
            continue
        pixels = pixels[:_TILE, :_TILE]
        height, width = pixels.shape[:2]
        top = number // _TILES_IN_A_ROW * _TILE + (_TILE - height) // 2
        left = number % _TILES_IN_A_ROW * _TILE + (_TILE - width) // 2
        sheet[top : top + height, left : left + width] = pixels
    _, jpeg = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 70])
    tiles = {"image": page.data_url(jpeg.tobytes()), "columns": _TILES_IN_A_ROW, "side": _TILE}
    return tiles, {path: number for number, path in enumerate(chosen)}


def _worst_mistakes(validation: Sequence[ValidationRow]) -> list[ValidationRow]:
    """Return the wrong answers that were given with the most confidence, worst first."""
    wrong = [row for row in validation if row.predicted != row.label]
    return sorted(wrong, key=lambda row: -row.probability)[:_GALLERY]


def _least_certain(validation: Sequence[ValidationRow]) -> list[ValidationRow]:
    """Return the answers that were given with the least confidence."""
    return sorted(validation, key=lambda row: row.probability)[:_GALLERY]


def _item(row: ValidationRow, thumbnails: Mapping[Path, bytes]) -> Item:
    said = _said(row)
    return Item(thumbnails.get(row.path), ", ".join(said[:2]), said)


def _said(row: ValidationRow) -> list[str]:
    label, predicted = page.shortened(row.label), page.shortened(row.predicted)
    verdict = "right" if row.predicted == row.label else "wrong"
    return [
        f"true: {label}",
        f"answer: {predicted} ({row.probability:.0%}, {verdict})",
        page.shortened(row.path.name),
    ]
