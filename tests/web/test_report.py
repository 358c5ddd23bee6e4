"""The report of a run, opened from disk: what a person sees, in dark and light, wide and narrow."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic.data.thumbnails import thumbnail_reader
from fic.digests import digest_file
from fic.runs.report import render_report
from fic.runs.report_pictures import ReportPictures
from fic.runs.run import RunResults, ValidationRow
from fic.training.metrics import evaluate

from .readable import CONTRAST, EVIL, assert_readable, open_page


def make_report(folder: Path, classes: int, count: int = 60) -> Path:
    """Write the report of a run that knows its pictures."""
    random = np.random.default_rng(0)
    labels = [EVIL, *(f"class {number}" for number in range(1, classes))]
    truth = np.arange(max(count, classes)) % classes
    answers = np.where(
        random.random(len(truth)) < 0.7, truth, random.integers(classes, size=len(truth))
    )
    probabilities = np.full((len(truth), classes), 0.3 / classes)
    probabilities[np.arange(len(truth)), answers] += 0.7
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), np.full((50, 60, 3), random.integers(0, 256, 3), np.uint8))
    validation = [
        ValidationRow(
            path=paths[number % count],
            label=labels[target],
            predicted=labels[answers[number]],
            probability=float(random.uniform(0.3, 1)),
        )
        for number, target in enumerate(truth)
    ]
    figures = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.4}
    results = RunResults(
        record={"base": {"base_model": "mobilenet"}, "images": {"train": 10}, "best_epoch": 2},
        metrics={"val": evaluate(probabilities, truth, labels)},
        history=[{"epoch": epoch + 1, **figures} for epoch in range(5)],
        validation=validation,
    )
    pictures = ReportPictures(
        thumbnails=thumbnail_reader({path: digest_file(path) for path in paths}, None),
        shown=range(count),
        bottlenecks=random.standard_normal((count, 8)),
    )
    file = folder / "report.html"
    file.write_text(render_report(results, pictures), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Return reports by their number of classes."""
    return {
        classes: make_report(tmp_path_factory.mktemp(f"classes-{classes}"), classes)
        for classes in (2, 20, 200)
    }


def open_report(browser, file, *, width=1280, dark=False):
    open_page(browser, file, width=width, dark=dark, charts=6)


@pytest.mark.parametrize("classes", [2, 20, 200])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_is_whole_and_readable(browser, reports, classes, dark, width):
    open_report(browser, reports[classes], width=width, dark=dark)
    words = ["h1", ".lead", "figcaption", "td", "th", ".tiles dd", ".tiles dt", ".gallery p", "a"]
    assert_readable(browser, reports[classes], words, width=width)
    assert re.fullmatch(r"\d+\.\d% right", browser.text("h1"))
    assert (browser.run(CONTRAST, ["body"])[0] > 12) and (
        browser.run("return getComputedStyle(document.body).backgroundColor")
        == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    )


@pytest.mark.parametrize(("classes", "numbers"), [(2, True), (20, True), (200, False)])
def test_the_matrix_fits_its_classes(browser, reports, classes, numbers):
    open_report(browser, reports[classes])
    matrix = '[data-chart="confusions"]'
    cells = browser.all(f"{matrix} [aria-label=cell] rect")
    assert len(cells) >= classes
    assert bool(browser.all(f"{matrix} [aria-label=text] text")) == numbers
    sizes = browser.run(
        "return args[0].map((cell) => cell.getBoundingClientRect().width)", cells[: 2 * classes]
    )
    assert min(sizes) >= (20 if numbers else 2)


def test_a_table_is_sorted_by_keyboard(browser, reports):
    open_report(browser, reports[20])
    recalls = """
        const column = [...document.querySelectorAll("#perclass thead th")]
            .findIndex((head) => head.textContent.startsWith("recall"));
        if (args[0]) document.querySelectorAll("#perclass thead button")[column].focus();
        return [...document.querySelectorAll("#perclass tbody tr")]
            .map((row) => Number(row.cells[column].dataset.value));
    """
    browser.run(recalls, True)
    browser.driver.switch_to.active_element.send_keys("\n")
    down = browser.run(recalls, False)
    assert down == sorted(down, reverse=True) and down[0] > down[-1]
    browser.driver.switch_to.active_element.send_keys("\n")
    assert browser.run(recalls, False) == down[::-1] or browser.run(recalls, False) == sorted(down)
    assert browser.all('#perclass th[aria-sort="ascending"]')


def test_the_map_shows_pictures_to_pointer_and_keyboard(browser, reports):
    open_report(browser, reports[2])
    assert not browser.one(".card").is_displayed()
    browser.run(
        """
        const map = document.querySelector('[data-chart="map"] svg');
        map.scrollIntoView({ block: "center", behavior: "instant" });
        await new Promise((done) => setTimeout(done, 300)); // scrolling hides what is shown
        const dot = map.querySelector("[aria-label=dot] path, [aria-label=dot] circle");
        const box = dot.getBoundingClientRect();
        map.dispatchEvent(new PointerEvent("pointermove", {
            clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true }));
        """
    )
    assert browser.one(".card").is_displayed()
    assert "true: " in browser.text(".card")
    assert browser.run('return document.querySelector(".card i").style.backgroundImage').startswith(
        'url("data:image/jpeg'
    )
    browser.run("""document.querySelector('[data-chart="map"]').focus();""")
    browser.driver.switch_to.active_element.send_keys("\ue014")  # arrow to the right
    said = browser.run(
        """return document.querySelector('[data-chart="map"] [aria-live]').textContent"""
    )
    assert "answer: " in said
    assert browser.complaints() == []


def test_long_tables_can_be_searched(browser, reports):
    open_report(browser, reports[200])
    browser.one('input[data-filters="perclass"]').send_keys("class 19")
    rows = [row.text.split()[:2] for row in browser.all("#perclass tbody tr") if row.is_displayed()]
    assert len(rows) == 11  # 19 and 190 to 199
    assert all(row[1].startswith("19") for row in rows)


def test_markup_in_a_label_stays_text(browser, reports):
    open_report(browser, reports[2])
    assert EVIL in browser.text("#perclass")
    assert not browser.all('img[src="x"]')
    assert browser.complaints() == []
