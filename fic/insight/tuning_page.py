"""`tuning.html` of a run: what was tried, what was chosen, and what more photos would bring."""

from typing import Any

from ..runs import page
from ..runs.page import Cell, Charts, Column, Html, Section
from .learning_curve import LearningCurve
from .trials import Tuning


def render_tuning(tuning: Tuning) -> str:
    """Return what was tried as one HTML page."""
    charts = Charts()
    chosen = tuning.chosen
    sections = [_tried_section(tuning, charts)]
    if tuning.curve is not None:
        sections.append(_curve_section(tuning.curve, charts))
    return page.render_page(
        "What was tried",
        heading=f"Take {chosen.candidate.head} with weight decay {chosen.candidate.weight_decay:g}",
        lead=f"The best choice of {len(tuning.tried)} heads on {tuning.pictures} pictures of "
        f"{tuning.classes} classes, with {tuning.base} and {len(chosen.folds)} folds.",
        top=page.tiles(
            [
                ("Accuracy", f"{chosen.accuracy:.1%}", f"± {chosen.standard_error:.1%}"),
                ("Head", chosen.candidate.head, ""),
                ("Weight decay", f"{chosen.candidate.weight_decay:g}", ""),
                ("Time", f"{tuning.seconds:.1f} s", "without extraction"),
            ]
        ),
        sections=sections,
        charts=charts,
    )


def _tried_section(tuning: Tuning, charts: Charts) -> Section:
    points = [
        {
            "x": each.candidate.weight_decay,
            "y": each.accuracy,
            "low": each.accuracy - each.standard_error,
            "high": each.accuracy + each.standard_error,
            "series": each.candidate.head,
        }
        for each in sorted(tuning.tried, key=lambda each: each.candidate.weight_decay)
    ]
    spec: dict[str, Any] = {"kind": "lines", "x": "weight decay", "y": "accuracy", "points": points}
    spec |= {"logarithmic": True, "percent": True, "mark": tuning.chosen.candidate.weight_decay}
    chart = charts.add("tried", spec, label="accuracy of each head against its weight decay")
    columns = [
        Column(title="head", name=True),
        *(
            Column(title=title)
            for title in ("weight decay", "accuracy", "standard error", "least fold", "best fold")
        ),
        Column(title="chosen", name=True),
    ]
    rows: list[list[str | Cell]] = [
        [
            each.candidate.head,
            Cell(f"{each.candidate.weight_decay:g}", each.candidate.weight_decay),
            Cell(f"{each.accuracy:.2%}", each.accuracy),
            Cell(f"{each.standard_error:.2%}", each.standard_error),
            Cell(f"{min(each.folds):.1%}", min(each.folds)),
            Cell(f"{max(each.folds):.1%}", max(each.folds)),
            "chosen" if each == tuning.chosen else "",
        ]
        for each in tuning.tried
    ]
    body = (
        page.paragraph(
            "Every head is measured on pictures that neither trained it nor decided when to stop. "
            "Of those within one standard error of the best the simplest is chosen."
        )
        + chart
        + page.table("tried", columns, rows, caption="Heads and their weight decay")
    )
    return Section(id="tried", title="What was tried", body=body, short="Tried")


def _curve_section(curve: LearningCurve, charts: Charts) -> Section:
    points = [
        {
            "x": point.pictures,
            "y": point.accuracy,
            "low": point.accuracy - point.spread,
            "high": point.accuracy + point.spread,
            "series": "measured",
        }
        for point in curve.points
    ]
    last = curve.points[-1]
    for x, low, high in (
        (last.pictures, last.accuracy, last.accuracy),
        (2 * last.pictures, curve.low, curve.high),
    ):
        middle = (low + high) / 2
        points.append({"x": x, "y": middle, "low": low, "high": high, "series": "expected"})
    spec: dict[str, Any] = {
        "kind": "lines",
        "x": "training pictures",
        "y": "accuracy",
        "points": points,
    }
    chart = charts.add(
        "curve",
        spec | {"percent": True},
        label="accuracy against the number of training pictures",
        caption="The band around what was measured is one standard deviation of the folds; that of "
        "what is expected holds 80 %.",
    )
    said = page.paragraph(curve.sentence()[:1].upper() + curve.sentence()[1:] + ".")
    return Section(
        id="photos",
        title="Would more photos help?",
        body=said + chart + _class_table(curve),
        short="More photos",
    )


def _class_table(curve: LearningCurve) -> Html:
    columns = [
        Column(title="class", name=True),
        *(Column(title=title) for title in ("pictures", "accuracy", "gain from the second half")),
    ]
    rows: list[list[str | Cell]] = [
        [
            page.shortened(point.label),
            Cell(str(point.pictures), point.pictures),
            Cell(f"{point.accuracy:.1%}", point.accuracy),
            Cell(f"{100 * point.gain:+.1f} points", point.gain),
        ]
        for point in curve.classes
    ]
    return page.table("classes", columns, rows, caption="Classes, those that gained most first")
