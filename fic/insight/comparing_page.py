"""The page of a comparison: accuracy against time, and the figures of each base."""

from typing import Any

from ..runs import page
from ..runs.page import Cell, Charts, Column, Html, Section
from .comparison import Comparison


def render_comparison(comparison: Comparison) -> str:
    """Return bases side by side as one HTML page."""
    charts = Charts()
    best, *others = comparison.rows
    alike = [row.base for row in others if row.alike]
    return page.render_page(
        "Bases compared",
        heading=f"Take {comparison.recommended}",
        lead=f"{comparison.pictures} pictures of {comparison.classes} classes, "
        f"{comparison.folds} folds, the same for each base.",
        top=page.tiles(
            [
                ("Most accurate", best.base, f"{best.accuracy:.1%} ± {best.standard_error:.1%}"),
                ("Recommended", comparison.recommended, ""),
                ("Cannot be told from it", ", ".join(alike) or "none", ""),
            ]
        ),
        sections=[_section(comparison, charts)],
        charts=charts,
    )


def _section(comparison: Comparison, charts: Charts) -> Section:
    points = [
        {
            "x": row.milliseconds,
            "y": row.accuracy,
            "low": row.accuracy - row.standard_error,
            "high": row.accuracy + row.standard_error,
            "name": row.base,
            "best": row.pareto,
            "lines": [
                row.base,
                f"{row.accuracy:.1%} ± {row.standard_error:.1%}",
                f"{row.milliseconds:.1f} ms",
            ],
        }
        for row in comparison.rows
    ]
    spec: dict[str, Any] = {"kind": "points", "x": "milliseconds a picture", "y": "accuracy"}
    chart = charts.add(
        "pareto",
        spec | {"points": points, "percent": True},
        label="accuracy of each base against the time of one picture",
        caption="Green: no other base is both more accurate and quicker (the Pareto front). Lines "
        "are one standard error.",
    )
    body = (
        page.paragraph(f"{comparison.reason}.")
        + chart
        + _table(comparison)
        + page.paragraph(
            "Two bases differ where McNemar's test on the pictures that only one of them gets "
            "right gives less than 5 % to chance.",
            kind="quiet",
        )
    )
    return Section(id="bases", title="Bases", body=body)


def _table(comparison: Comparison) -> Html:
    figures = ("accuracy", "standard error", "ms a picture", "images/s", "bundle MB", "features")
    columns = [
        Column(title="base", name=True),
        *(Column(title=title) for title in figures),
        Column(title="beside the best", name=True),
    ]
    rows: list[list[str | Cell]] = [
        [
            row.base,
            Cell(f"{row.accuracy:.2%}", row.accuracy),
            Cell(f"{row.standard_error:.2%}", row.standard_error),
            Cell(f"{row.milliseconds:.1f}", row.milliseconds),
            Cell(f"{row.images_per_second:.0f}", row.images_per_second),
            Cell(f"{row.bundle_bytes / 1e6:.1f}", row.bundle_bytes),
            Cell(str(row.features), row.features),
            "the best" if row is comparison.rows[0] else verdict(alike=row.alike, p=row.chance),
        ]
        for row in comparison.rows
    ]
    return page.table("bases", columns, rows, caption="Bases, the most accurate first")


def verdict(*, alike: bool, p: float) -> str:
    """Say whether a base can be told from the best."""
    return f"not told apart (p = {p:.2f})" if alike else f"less accurate (p = {p:.3f})"
