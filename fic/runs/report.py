"""`report.html`, a page about a run: how good it is, where it is wrong, and how to repeat it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import page
from .page import Cell, Charts, Column, Html, Item, Section
from .run import RunResults, ValidationRow

ReadThumbnails = Callable[[Sequence[Path]], Mapping[Path, bytes]]
"""Returns small JPEG files of pictures, without those that are gone."""

MOST_ON_MAP = 400
_GALLERY = 24
_BINS = 10
_Z = 1.959964  # of the normal distribution, for 95 %
_FEW_CLASSES = 12  # whose matrix leaves room for a table beside it
_MOST_ROWS = 500
_MOST_CONFUSIONS = 20
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
class _Limits:
    """How many pictures a page has room for."""

    gallery: int = _GALLERY
    tiles: int = MOST_ON_MAP


def render_report(results: RunResults, pictures: ReportPictures | None = None) -> str:
    """Return the report of a run as one HTML page of at most 2 MB.

    Args:
        results: of the training.
        pictures: of the validation; without them the page has figures only.
    """
    paths = _paths_to_show(results.validation, pictures)
    thumbnails = {} if pictures is None or not paths else pictures.thumbnails(paths)
    whole = _render(results, pictures, thumbnails, _Limits())
    for share in (2, 4, 8):
        if len(whole.encode()) <= page.MOST_BYTES:
            break
        limits = _Limits(_GALLERY // share, MOST_ON_MAP // (share * share))
        whole = _render(results, pictures, thumbnails, limits)
    return whole


def pictures_on_map(count: int) -> list[int]:
    """Return the positions of at most `MOST_ON_MAP` of `count` pictures, from all parts of them."""
    places = np.linspace(0, count - 1, min(count, MOST_ON_MAP)).astype(int)
    return [int(place) for place in np.unique(places)]


def report_figures(results: RunResults) -> dict[str, Any]:
    """Return the figures that a report adds to those of the run, ready for JSON."""
    val = results.metrics["val"]
    right = round((val["accuracy"] or 0) * val["images"])
    bins = confidence_bins(results.validation)
    return {
        "accuracy": val["accuracy"],
        "interval": list(wilson(right, val["images"])),
        "images": val["images"],
        "calibration_error": _calibration_error(bins),
    }


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson's), 0 to 1 where nothing was counted.

    Edwin Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927). It is never empty or beyond 0 and 1.
    """
    if not count:
        return 0.0, 1.0
    share, z2 = right / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At 0 and 1 rounding would leave the share itself out.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def confidence_bins(validation: Sequence[ValidationRow]) -> list[dict[str, float]]:
    """Return pictures, mean confidence and share of right answers of each tenth of confidence."""
    confidence = np.array([row.probability for row in validation], float)
    right = np.array([row.predicted == row.label for row in validation], bool)
    numbers = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    found = []
    for number in range(_BINS):
        own = numbers == number
        count, hits = int(own.sum()), int(right[own].sum())
        found.append(
            {
                "low": number / _BINS,
                "high": (number + 1) / _BINS,
                "images": count,
                "right": hits,
                "confidence": float(confidence[own].mean()) if count else 0.0,
            }
        )
    return found


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


def _render(
    results: RunResults,
    pictures: ReportPictures | None,
    thumbnails: Mapping[Path, bytes],
    limits: _Limits,
) -> str:
    record, val = results.record, results.metrics["val"]
    base = record["base"]["base_model"]
    charts = Charts()
    sections = [
        *_curves(results, charts),
        _confusion_section(val, charts),
        _class_section(val["per_class"]),
        *_confidence_section(results.validation, charts),
        *_map_section(results, pictures, thumbnails, limits, charts),
        *_galleries(results.validation, thumbnails, limits),
        _run_section(record),
    ]
    accuracy = val["accuracy"] or 0.0
    lead = (
        f"on {val['images']} validation pictures of {len(val['per_class'])} classes, with "
        f"{base}{_tuned(record)}; {_training(record, results.history)}"
    )
    return page.render_page(
        f"{page.shortened(base)}: {accuracy:.1%}",
        heading=f"{accuracy:.1%} right",
        lead=lead,
        top=_tiles(results),
        sections=sections,
        charts=charts,
    )


def _training(record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    if not history:
        return "evaluated without any training."
    return (
        f"trained on {record['images']['train']} pictures, best epoch "
        f"{record['best_epoch']} of {len(history)}."
    )


def _tuned(record: Mapping[str, Any]) -> str:
    tuning = record.get("fine_tuning") or {}
    return f", its last {len(tuning['layers'])} layers fine-tuned" if tuning.get("kept") else ""


def _tiles(results: RunResults) -> Html:
    val, record = results.metrics["val"], results.record
    figures = report_figures(results)
    low, high = figures["interval"]
    values = [
        ("Accuracy", f"{figures['accuracy'] or 0:.1%}", f"95 % interval {low:.1%} to {high:.1%}")
    ]
    if len(val["per_class"]) > 5:
        values.append(("Among the first five", f"{val['top_5'] or 0:.1%}", ""))
    if val.get("loss") is not None:
        values.append(("Loss", f"{val['loss']:.3f}", "cross entropy"))
    if results.validation:
        error = figures["calibration_error"]
        values.append(("Calibration error", f"{error:.1%}", "confidence against right answers"))
    if total := (record.get("seconds") or {}).get("total"):
        cache = record.get("cache") or {}
        values.append(("Time", f"{total:.1f} s", f"{cache.get('hits', 0)} bottlenecks cached"))
    return page.tiles(values)


def _curves(results: RunResults, charts: Charts) -> list[Section]:
    history = results.history
    if not history:
        return []
    parts = []
    for name in ("loss", "accuracy"):
        points = [
            {"x": number + 1, "y": figures[key], "series": series}
            for series, key in (("training", name), ("validation", f"val_{name}"))
            for number, figures in enumerate(history)
            if math.isfinite(figures[key])
        ]
        if points:
            best = results.record.get("best_epoch") or None
            spec = {"kind": "lines", "x": "epoch", "y": name, "points": points}
            spec |= {} if best is None else {"mark": best}
            said = f"{name} of training and validation over {len(history)} epochs"
            parts.append(charts.add(name, spec, label=said))
    columns = [Column(title="epoch"), *(Column(title=name) for name in _CURVES.values())]
    rows = [
        [str(number + 1), *(f"{figures[key]:.4f}" for key in _CURVES)]
        for number, figures in enumerate(history[:_MOST_ROWS])
    ]
    body = page.side_by_side(*parts) + page.folded(
        "The same as a table",
        page.table("epochs", columns, rows, caption="Figures of each epoch", sortable=False),
    )
    return [Section(id="training", title="Training", body=body)]


_CURVES = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
}


def _confusion_section(val: Mapping[str, Any], charts: Charts) -> Section:
    labels = [page.shortened(label) for label in val["per_class"]]
    cells = _matrix_cells(val)
    if len(labels) <= page.MOST_IN_MATRIX:
        matrix = charts.matrix(
            "confusions",
            labels,
            cells,
            label=f"confusion matrix of {len(labels)} classes; the table names the most frequent "
            "confusions",
        )
    else:
        matrix = page.paragraph(
            f"The confusions of {len(labels)} classes are in metrics.json; these are the most "
            "frequent ones."
        )
    totals = [figures["images"] for figures in val["per_class"].values()]
    frequent = _frequent_confusions(labels, totals, cells)
    few = len(labels) <= _FEW_CLASSES
    return Section(
        id="confusions",
        title="What was taken for what",
        body=page.side_by_side(matrix, frequent) if few else matrix + frequent,
        short="Confusions",
    )


def _frequent_confusions(
    labels: Sequence[str], totals: Sequence[int], cells: Sequence[Sequence[int]]
) -> Html:
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    if not wrong:
        return page.paragraph("Nothing was taken for anything else.")
    rows: list[Sequence[str | Cell]] = [
        [
            labels[truth],
            labels[answer],
            Cell(str(count), count),
            Cell(f"{count / max(1, totals[truth]):.1%}", count / max(1, totals[truth])),
        ]
        for truth, answer, count in wrong[:_MOST_CONFUSIONS]
    ]
    columns = [
        Column(title="true class", name=True),
        Column(title="answer", name=True),
        Column(title="pictures"),
        Column(title="of its class"),
    ]
    return page.table("mistaken", columns, rows, caption="Most frequent confusions")


def _matrix_cells(val: Mapping[str, Any]) -> list[list[int]]:
    """Return the entries [true, answer, pictures] of the confusion matrix above 0."""
    if "confusions" in val:
        return [list(map(int, entry)) for entry in val["confusions"]]
    matrix = np.asarray(val.get("confusion_matrix") or np.zeros((0, 0)))
    return [[int(i), int(j), int(matrix[i, j])] for i, j in np.argwhere(matrix > 0)]


def _class_section(per_class: Mapping[str, Mapping[str, Any]]) -> Section:
    figures = list(per_class.items())
    note = Html("")
    if len(figures) > _MOST_ROWS:
        figures = sorted(figures, key=lambda each: -1.0 if each[1]["f1"] is None else each[1]["f1"])
        figures = figures[:_MOST_ROWS]
        note = page.paragraph(
            f"The {_MOST_ROWS} classes with the lowest F1; all are in metrics.json."
        )
    names = ("precision", "recall", "f1")
    rows: list[Sequence[str | Cell]] = [
        [
            page.shortened(label),
            Cell(str(own["images"]), own["images"]),
            *(Cell("-" if own[name] is None else f"{own[name]:.1%}", own[name]) for name in names),
        ]
        for label, own in figures
    ]
    columns = [
        Column(title="class", name=True),
        *(Column(title=title) for title in ("pictures", "precision", "recall", "F1")),
    ]
    caption = (
        "Precision: how many of the answers of a class are right. Recall: how many of its "
        "pictures were recognized."
    )
    return Section(
        id="classes",
        title="Classes",
        body=note + page.table("perclass", columns, rows, caption=caption),
    )


def _confidence_section(validation: Sequence[ValidationRow], charts: Charts) -> list[Section]:
    if not validation:
        return []
    bins = confidence_bins(validation)
    filled = [
        {
            **each,
            "right": each["right"] / each["images"],
            **dict(
                zip(("low", "high"), wilson(int(each["right"]), int(each["images"])), strict=True)
            ),
        }
        for each in bins
        if each["images"]
    ]
    reliability = charts.add(
        "reliability",
        {"kind": "reliability", "bins": filled},
        label="reliability diagram: share of right answers at each confidence",
        caption="On the line, confidence is what it claims; above it, answers are better than "
        "they claim. Bars are 95 % intervals, larger dots hold more pictures.",
    )
    counted = [{**each, "wrong": each["images"] - each["right"]} for each in bins]
    histogram = charts.add(
        "confidence",
        {
            "kind": "bars",
            "x": "confidence",
            "y": "pictures",
            "percent": True,
            "bins": counted,
            "parts": [
                {"name": "right", "color": "first"},
                {"name": "wrong", "color": "bad", "pattern": True},
            ],
        },
        label="histogram of the confidence of right and wrong answers",
        caption="Pictures by the confidence of their answer: right ones below, wrong ones on top.",
    )
    rows = [
        [
            f"{each['low']:.0%} to {each['high']:.0%}",
            str(each["images"]),
            f"{each['confidence']:.1%}" if each["images"] else "-",
            f"{each['right'] / each['images']:.1%}" if each["images"] else "-",
        ]
        for each in bins
    ]
    columns = [Column(title=title) for title in ("confidence", "pictures", "mean", "right")]
    body = page.side_by_side(reliability, histogram) + page.folded(
        "The same as a table",
        page.table("bins", columns, rows, caption="Right answers by confidence", sortable=False),
    )
    return [Section(id="confidence", title="Confidence", body=body)]


def _calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Return the mean distance of confidence and right answers, each bin by its pictures."""
    total = sum(each["images"] for each in bins)
    apart = (abs(each["confidence"] * each["images"] - each["right"]) for each in bins)
    return sum(apart) / total if total else 0.0


def _map_section(
    results: RunResults,
    pictures: ReportPictures | None,
    thumbnails: Mapping[Path, bytes],
    limits: _Limits,
    charts: Charts,
) -> list[Section]:
    if pictures is None or pictures.bottlenecks is None or len(pictures.shown) < 3:
        return []
    rows = [results.validation[index] for index in pictures.shown]
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


def _paths_to_show(
    validation: Sequence[ValidationRow], pictures: ReportPictures | None
) -> list[Path]:
    shown = () if pictures is None else pictures.shown
    return [
        *(row.path for row in _worst_mistakes(validation)),
        *(row.path for row in _least_certain(validation)),
        *(validation[index].path for index in shown),
    ]


def _worst_mistakes(validation: Sequence[ValidationRow]) -> list[ValidationRow]:
    """Return the wrong answers that were given with the most confidence, worst first."""
    wrong = [row for row in validation if row.predicted != row.label]
    return sorted(wrong, key=lambda row: -row.probability)[:_GALLERY]


def _least_certain(validation: Sequence[ValidationRow]) -> list[ValidationRow]:
    """Return the answers that were given with the least confidence."""
    return sorted(validation, key=lambda row: row.probability)[:_GALLERY]


def _galleries(
    validation: Sequence[ValidationRow], thumbnails: Mapping[Path, bytes], limits: _Limits
) -> list[Section]:
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


def _run_section(record: Mapping[str, Any]) -> Section:
    body = page.heading("To repeat it") + page.code(
        "# in the folder that holds this file\nfic train --config run.json --out ../again"
    )
    seconds, cache = record.get("seconds") or {}, record.get("cache") or {}
    rows = [
        *((f"{_STEPS.get(name, name)}", f"{value:.2f} s") for name, value in seconds.items()),
        *((f"bottlenecks: {_USES.get(name, name)}", str(value)) for name, value in cache.items()),
        *([("engine", str(record["engine"]))] if record.get("engine") else []),
    ]
    columns = [Column(title="what", name=True), Column(title="figure")]
    if rows:
        body += page.heading("Time and cache")
        body += page.table("steps", columns, rows, caption="Time and cache", sortable=False)
    body += _skipped(record.get("skipped_files") or [])
    for title, name in (("Pictures", "source"), ("Base", "base"), ("Bottlenecks", "bottlenecks"),
                        ("Training", "training"), ("Versions", "versions")):  # fmt: skip
        values = record.get(name)
        if isinstance(values, Mapping):
            shown = [(str(key), page.shortened(str(value))) for key, value in values.items()]
            named = [replace(columns[0], title="option"), Column(title="value", name=True)]
            body += page.folded(
                title, page.table(f"of{name}", named, shown, caption=title, sortable=False)
            )
    return Section(id="run", title="The run", body=body, short="Run")


_STEPS = {"extract": "extracting bottlenecks", "train": "training the head", "total": "all"}
_USES = {"hits": "from the cache", "extracted": "extracted", "skipped": "pictures skipped"}


def _skipped(files: Sequence[Mapping[str, Any]]) -> Html:
    if not files:
        return page.heading("Skipped files") + page.paragraph("None.")
    rows = [
        [page.shortened(str(each.get("file"))), page.shortened(str(each.get("reason")))]
        for each in files[:_MOST_ROWS]
    ]
    columns = [Column(title="file", name=True), Column(title="reason", name=True)]
    caption = f"{len(files)} files could not be read"
    return page.heading("Skipped files") + page.table("skipped", columns, rows, caption=caption)
