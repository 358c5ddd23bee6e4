"""`report.html`, a page about a run: how good it is, where it is wrong, and how to repeat it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import page
from .figures import confidence_bins, report_figures, wilson
from .page import Cell, Charts, Column, Html, Section
from .report_pictures import Limits, ReportPictures, galleries, map_section, paths_to_show
from .run import RunResults, ValidationRow

_FEW_CLASSES = 12  # whose matrix leaves room for a table beside it
_MOST_ROWS = 500
_MOST_CONFUSIONS = 20


def render_report(results: RunResults, pictures: ReportPictures | None = None) -> str:
    """Return the report of a run as one HTML page of at most 2 MB.

    Args:
        results: of the training.
        pictures: of the validation; without them the page has figures only.
    """
    paths = paths_to_show(results.validation, pictures)
    thumbnails = {} if pictures is None or not paths else pictures.thumbnails(paths)
    for share in (1, 2, 4, 8):
        whole = _render(results, pictures, thumbnails, Limits().divided(share))
        if len(whole.encode()) <= page.MOST_BYTES:
            break
    return whole


def _render(
    results: RunResults,
    pictures: ReportPictures | None,
    thumbnails: Mapping[Path, bytes],
    limits: Limits,
) -> str:
    record, val = results.record, results.metrics["val"]
    base = record["base"]["base_model"]
    charts = Charts()
    sections = [
        *_curves(results, charts),
        _confusion_section(val, charts),
        _class_section(val["per_class"]),
        *_confidence_section(results.validation, charts),
        *map_section(results.validation, pictures, thumbnails, limits, charts),
        *galleries(results.validation, thumbnails, limits),
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
