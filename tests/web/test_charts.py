"""The kinds of charts that pages are made of, each with the least that it needs."""

import pytest

from fic.runs.page import Charts, Html, Section, render_page

POINTS = [{"x": 10, "y": 0.8, "series": "accuracy"}, {"x": 20, "y": 0.9, "series": "accuracy"}]
CHARTS = {
    "lines": ({"kind": "lines", "x": "epoch", "y": "loss", "points": POINTS}, "epoch →"),
    "one point": ({"kind": "lines", "x": "epoch", "y": "loss", "points": POINTS[:1]}, "epoch"),
    "lines with a band": (
        {
            "kind": "lines", "x": "pictures", "y": "accuracy", "percent": True, "logarithmic": True,
            "points": [{**point, "low": 0.7, "high": 0.95} for point in POINTS],
        },
        "90%",
    ),
    "points": (
        {
            "kind": "points", "x": "milliseconds", "y": "accuracy", "percent": True,
            "points": [
                {"x": 5.0, "y": 0.9, "low": 0.88, "high": 0.92, "name": "small", "lines": ["one"]},
                {"x": 50.0, "y": 0.95, "name": "large", "best": True, "lines": ["large", "slow"]},
            ],
        },
        "large",
    ),
    "bars": (
        {
            "kind": "bars", "x": "confidence", "y": "pictures",
            "bins": [{"low": 0, "high": 0.5, "right": 0}, {"low": 0.5, "high": 1, "right": 3}],
            "parts": [{"name": "right", "color": "first"}],
        },
        "confidence →",
    ),
    "a matrix of nothing": (
        {"kind": "matrix", "labels": ["a", "b"], "cells": [], "x": "answer", "y": "true class"},
        "true class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_without_complaints(browser, tmp_path, name):
    spec, shown = CHARTS[name]
    charts = Charts()
    body = charts.add("chart", spec, label="what it shows")
    file = tmp_path / "page.html"
    sections = [Section(id="one", title="One", body=body)]
    text = render_page("T", heading="H", lead="L", top=Html(""), sections=sections, charts=charts)
    file.write_text(text, encoding="utf-8")
    browser.open(file.as_uri(), width=700)
    chart = browser.until(lambda: browser.one("[data-chart] svg"))
    assert chart.get_attribute("aria-label") == "what it shows"
    assert shown in browser.text("[data-chart]")
    assert "NaN" not in chart.get_attribute("innerHTML")
    assert browser.complaints() == []
