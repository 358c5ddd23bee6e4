"""The pages of a tuning and of a comparison, opened from disk."""

from pathlib import Path

import pytest

from fic.insight.comparing_page import render_comparison
from fic.insight.comparison import Compared, Comparison
from fic.insight.learning_curve import ClassPoint, CurvePoint, LearningCurve
from fic.insight.trials import CANDIDATES, Tried, Tuning
from fic.insight.tuning_page import render_tuning

from .readable import EVIL, assert_readable, open_page

WORDS = ["h1", ".lead", ".tiles dt", ".tiles dd", "figcaption", "caption", "td", "th", "a"]


def tuning() -> Tuning:
    """Return what `fic tune --learning-curve` finds on the flowers."""
    accuracies = (905, 905, 908, 906, 909, 911, 908, 905, 898, 897, 906, 910)
    tried = [
        Tried(candidate=candidate, accuracy=own / 1000, standard_error=0.006, folds=[0.89, 0.93])
        for candidate, own in zip(CANDIDATES, accuracies, strict=True)
    ]
    measured = ((100, 0.825), (200, 0.874), (400, 0.891), (600, 0.901), (800, 0.905))
    curve = LearningCurve(
        points=[CurvePoint(pictures=n, accuracy=own, spread=0.02) for n, own in measured],
        classes=[ClassPoint(label=EVIL, pictures=200, accuracy=0.915, gain=0.025)],
        doubled=2000,
        low=0.903,
        high=0.92,
    )
    return Tuning(
        base="efficientnet_lite0", pictures=1000, classes=5, tried=tried, chosen=tried[7],
        curve=curve, seconds=6.1,
    )  # fmt: skip


def comparison() -> Comparison:
    """Return what `fic compare` finds, with a long name at each end."""
    figures = {"features": 1280, "images_per_second": 41.0, "bundle_bytes": 13_400_000}
    rows = [
        Compared(
            base=name, accuracy=accuracy, standard_error=0.006, milliseconds=time, chance=chance,
            alike=chance > 0.05, pareto=pareto, **figures,
        )
        for name, accuracy, time, chance, pareto in (
            ("efficientnet_lite0", 0.909, 24.7, 1.0, True),
            (f"hf://someone/{EVIL}", 0.905, 35.1, 0.4, False),
            ("mobilenet_v2_0.35_of_a_longer_name", 0.882, 12.7, 0.007, True),
        )
    ]  # fmt: skip
    return Comparison(
        pictures=1000, classes=5, folds=5, rows=rows, recommended=rows[0].base,
        reason="efficientnet_lite0 is the quickest",
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {"tuning": render_tuning(tuning()), "comparison": render_comparison(comparison())}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["tuning", "comparison"])
def test_a_page_is_whole_and_readable(browser, pages, name, width, dark) -> None:
    open_page(browser, pages[name], width=width, dark=dark, charts=2 if name == "tuning" else 1)
    assert_readable(browser, pages[name], WORDS, width=width)
    assert EVIL in browser.text("main")


def test_what_twice_the_photos_give_is_drawn_and_said(browser, pages) -> None:
    open_page(browser, pages["tuning"], width=1280, dark=False, charts=2)
    said = browser.text("main").replace("\xa0", " ")
    assert "With twice the photos expect 90.3 to 92.0 %; with these it is 90.5 %." in said
    bands = browser.all('[data-chart="curve"] [aria-label=area] path')
    assert len(bands) == 2
    assert all(band.rect["height"] > 5 for band in bands)


def test_decays_are_written_as_on_the_command_line(browser, pages) -> None:
    open_page(browser, pages["tuning"], width=1280, dark=False, charts=2)
    ticks = browser.text('[data-chart="tried"]').split()
    assert {"0.003", "0.01", "0.1", "1"} <= set(ticks)


def test_a_base_is_recommended_and_named(browser, pages) -> None:
    open_page(browser, pages["comparison"], width=1280, dark=False, charts=1)
    assert browser.text("h1") == "Take efficientnet_lite0"
    assert "mobilenet_v2_0.35_of_a_longer_name" in browser.text("[data-chart]")
    assert "less accurate (p = 0.007)" in browser.text("#bases tbody")
