"""`report.html`, a page about a run: one file, without network or script."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fic_runtime.errors import ImageError
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry

from .run import RunResults, ValidationRow

_THUMBNAIL = Geometry(height=128, width=128, resize="pad")
_MISTAKES = 24
# A matrix of a thousand classes would be a million unread cells.
_MOST_CLASSES_SHOWN = 60

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1 { margin-bottom: 0 } .lead { font-size: 1.2rem; margin-top: .2rem }
table { border-collapse: collapse } th, td { padding: .25rem .6rem; text-align: right }
th:first-child { text-align: left } thead th { border-bottom: 1px solid #aaa }
.matrix td { min-width: 2.2rem; text-align: center }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, 148px); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .8rem; overflow-wrap: anywhere }
svg { width: 100%; height: auto } .legend { font-size: .9rem }
"""


def render_report(results: RunResults) -> str:
    """Return the report of a run as one HTML page."""
    record, history = results.record, results.history
    val = results.metrics["val"]
    base = record["base"]["base_model"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{escape(base)}: {val['accuracy']:.1%}</title><style>{_STYLE}</style>",
            f"<h1>{val['accuracy']:.1%} right</h1>",
            f'<p class="lead">on {val["images"]} validation pictures of '
            f"{len(val['per_class'])} classes, with {escape(base)}{_tuned(record)}; "
            f"{_training(record, history)}"
            "</p>",
            *_all_curves(history),
            "<h2>Classes</h2>",
            _class_table(val["per_class"]),
            _matrix(list(val["per_class"]), val.get("confusion_matrix")),
            _mistake_gallery(_worst_mistakes(results.validation)),
            "</html>",
            "",
        ]
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


def _all_curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    if not history:
        return []
    return [
        "<h2>Training</h2>",
        _curves(history, "loss", lowest=0.0),
        _curves(history, "accuracy", lowest=None),
    ]


def _curves(history: Sequence[Mapping[str, float]], name: str, *, lowest: float | None) -> str:
    curves = {
        "training": ("#0969da", [figures[name] for figures in history]),
        "validation": ("#bc4c00", [figures[f"val_{name}"] for figures in history]),
    }
    values = [value for _, curve in curves.values() for value in curve]
    low = min(values) if lowest is None else lowest
    high = max(*values, low + 1e-9)
    width, height, left, bottom = 700, 180, 46, 22
    step = (width - left - 10) / max(1, len(history) - 1)

    def y(value: float) -> float:
        return 8 + (height - bottom - 8) * (high - value) / (high - low)

    shapes = [
        f'<line x1="{left}" x2="{width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>'
        f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        for tick in (low, (low + high) / 2, high)
    ]
    for color, curve in curves.values():
        points = " ".join(f"{left + i * step:.1f},{y(v):.1f}" for i, v in enumerate(curve))
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
            f'<circle cx="{left + (len(curve) - 1) * step:.1f}" cy="{y(curve[-1]):.1f}" r="3" '
            f'fill="{color}"/>'
        )
    shapes.append(f'<text x="{left}" y="{height - 4}">epoch 1</text>')
    shapes.append(
        f'<text x="{width}" y="{height - 4}" text-anchor="end">epoch {len(history)}</text>'
    )
    legend = ", ".join(
        f'<span style="color:{color}">{kind} {name}</span>' for kind, (color, _) in curves.items()
    )
    return (
        f'<p class="legend">{legend}</p><svg viewBox="0 0 {width} {height}" font-size="11" '
        f'fill="#57606a" role="img" aria-label="{name} of each epoch">{"".join(shapes)}</svg>'
    )


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><th>{escape(label)}</th><td>{figures['images']}</td>"
        + "".join(
            f"<td>{'-' if figures[name] is None else format(figures[name], '.1%')}</td>"
            for name in ("precision", "recall", "f1")
        )
        + "</tr>"
        for label, figures in per_class.items()
    ]
    return (
        "<table><thead><tr><th>class</th><th>pictures</th><th>precision</th><th>recall</th>"
        f"<th>F1</th></tr></thead>{''.join(rows)}</table>"
    )


def _matrix(labels: Sequence[str], matrix: Sequence[Sequence[int]] | None) -> str:
    if matrix is None or len(labels) > _MOST_CLASSES_SHOWN:
        return (
            f"<p>The confusion matrix of {len(labels)} classes is in <code>metrics.json</code>.</p>"
        )
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for i, (label, counts) in enumerate(zip(labels, matrix, strict=True)):
        total = sum(counts) or 1
        cells = "".join(
            f'<td style="background:{_shade(count / total, right=i == j)}" '
            f'title="{escape(label)} taken for {escape(labels[j])}">{count or ""}</td>'
            for j, count in enumerate(counts)
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return (
        "<h2>What was taken for what</h2><p>Rows are the true classes, columns the answers.</p>"
        f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead>{"".join(rows)}</table>'
    )


def _shade(share: float, *, right: bool) -> str:
    color = "9,105,218" if right else "188,76,0"
    return f"rgba({color},{0.75 * share:.2f})"


def _worst_mistakes(validation: Sequence[ValidationRow]) -> list[ValidationRow]:
    """Return the wrong answers that were given with the most confidence, worst first."""
    wrong = [answer for answer in validation if answer.predicted != answer.label]
    return sorted(wrong, key=lambda answer: -answer.probability)[:_MISTAKES]


def _mistake_gallery(mistakes: Sequence[ValidationRow]) -> str:
    if not mistakes:
        return "<h2>Mistakes</h2><p>None.</p>"
    figures = [
        f'<figure><img alt="" width="128" height="128" src="{picture}">'
        f"<figcaption>{escape(mistake.label)}, taken for <b>{escape(mistake.predicted)}</b> "
        f"({mistake.probability:.0%})<br>{escape(mistake.path.name)}</figcaption></figure>"
        for mistake in mistakes
        if (picture := _thumbnail(mistake.path)) is not None
    ]
    return f'<h2>Worst mistakes</h2><div class="mistakes">{"".join(figures)}</div>'


def _thumbnail(path: Path) -> str | None:
    import cv2

    try:
        pixels = load_image(path, _THUMBNAIL)
    except ImageError:
        return None  # gone since it was extracted; the report can do without it
    _, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
