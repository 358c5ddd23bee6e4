import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.data.thumbnails import thumbnail_reader
from fic.digests import digest_file
from fic.runs import Run
from fic.runs.page import MOST_BYTES
from fic.runs.report import render_report
from fic.runs.report_pictures import MOST_ON_MAP, ReportPictures, pictures_on_map
from fic.runs.run import RunResults, ValidationRow
from fic.training.metrics import evaluate

EVIL = '</script><script>alert("x")</script> & "co"'
EMPTY = {"meta", "img", "br", "input", "link"}


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and complains about unbalanced ones."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.values: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [(tag, name, value or "") for name, value in attrs]
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    @property
    def text(self) -> str:
        hidden = {"script", "style"}
        return " ".join(
            each for tag, own in self.texts.items() if tag not in hidden for each in own
        )

    @property
    def charts(self) -> dict[str, Any]:
        """The values of the charts by name."""
        return json.loads(self.texts["script"][0])["charts"]


def results_of(
    *,
    labels: Sequence[str] = ("cat", "dog"),
    epochs: int = 3,
    validation: Sequence[ValidationRow] = (),
    **record: Any,
) -> RunResults:
    targets = np.arange(len(labels))
    answers = np.full((len(labels), len(labels)), 0.01)
    answers[:, 0] = 0.9
    figures = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.4}
    known = {"base": {"base_model": "mobilenet"}, "images": {"train": 10}, "best_epoch": 2}
    return RunResults(
        record={**known, **record},
        metrics={"val": evaluate(answers, targets, labels)},
        history=[{"epoch": epoch + 1, **figures} for epoch in range(epochs)],
        validation=validation,
    )


def report(pictures: ReportPictures | None = None, **values: Any) -> str:
    return render_report(results_of(**values), pictures)


def row(path: Path, label: str, predicted: str, probability: float) -> ValidationRow:
    return ValidationRow(path=path, label=label, predicted=predicted, probability=probability)


def pictures_of(paths: Sequence[Path]) -> ReportPictures:
    digests = {path: digest_file(path) for path in paths if path.exists()}
    return ReportPictures(
        thumbnails=thumbnail_reader(digests, None),
        shown=range(len(paths)),
        bottlenecks=np.random.default_rng(0).standard_normal((len(paths), 8)),
    )


def test_a_report_asks_the_network_for_nothing(cold_run: Run) -> None:
    page = (cold_run.folder / "report.html").read_text(encoding="utf-8")
    tags = Tags(page)
    assert not {"iframe", "object", "embed", "base"} & set(tags.names)
    addresses = [value for _, name, value in tags.values if name in ("src", "href")]
    assert addresses
    assert all(value.startswith(("data:", "#")) for value in addresses)
    (policy,) = [value for tag, _, value in tags.values if value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.split("style-src")[0]


def test_a_report_shows_the_map_and_the_pictures_of_its_run(cold_run: Run) -> None:
    page = (cold_run.folder / "report.html").read_text(encoding="utf-8")
    points = Tags(page).charts["map"]["points"]
    assert len(points) == len(cold_run.validation())
    assert {point["tile"] for point in points} == set(range(len(points)))
    assert page.count("<img ") >= len(points)


def test_names_of_classes_and_files_cannot_become_html(tmp_path: Path, make_photos: Any) -> None:
    make_photos(tmp_path, 1, labels=("a",))
    picture = (tmp_path / "a/0.jpg").rename(tmp_path / "<b>&.jpg")
    mistake = row(picture, EVIL, "<i>", 0.9)
    tags = Tags(report(pictures_of([picture] * 3), labels=[EVIL, "b"], validation=[mistake] * 3))
    assert tags.names.count("script") == 4  # the values, two libraries and the page's own
    assert "i" not in tags.names
    assert EVIL in tags.text
    assert "<b>&.jpg" in tags.text
    assert tags.charts["confusions"]["labels"][0] == EVIL
    assert tags.charts["map"]["points"][0]["label"] == EVIL


def test_the_most_confident_mistakes_come_first(tmp_path: Path) -> None:
    names = ("unsure.jpg", "right.jpg", "sure.jpg")
    validation = [
        row(Path(name), "cat", predicted, probability)
        for name, predicted, probability in zip(
            names, ("dog", "cat", "dog"), (0.55, 0.99, 0.95), strict=True
        )
    ]
    page = report(validation=validation)
    mistakes, _, doubtful = page.partition('id="mistakes"')[2].partition('id="doubtful"')
    assert mistakes.index("sure.jpg") < mistakes.index("unsure.jpg")
    assert "right.jpg" not in mistakes
    assert doubtful.index("unsure.jpg") < doubtful.index("right.jpg")


def test_a_picture_that_is_gone_has_its_figures_only() -> None:
    gone = Path("gone.jpg")
    tags = Tags(report(pictures_of([gone]), validation=[row(gone, "cat", "dog", 0.9)]))
    assert "img" not in tags.names
    assert "file is gone" in tags.text
    assert "gone.jpg" in tags.text


def test_every_picture_and_chart_is_described_in_words(cold_run: Run) -> None:
    tags = Tags((cold_run.folder / "report.html").read_text(encoding="utf-8"))
    alts = [value for tag, name, value in tags.values if (tag, name) == ("img", "alt")]
    assert len(alts) == tags.names.count("img")
    assert all(re.match(r"true: \w+, answer: \w+", alt) for alt in alts)
    labels = [value for _, name, value in tags.values if name == "data-label"]
    assert len(labels) == len(tags.charts) == 6
    assert all(labels)


def test_what_is_missing_is_left_out() -> None:
    tags = Tags(report(epochs=0))
    assert tags.charts.keys() == {"confusions"}
    assert "evaluated without any training" in tags.text
    assert "Skipped files" in tags.text


def test_skipped_files_and_the_way_to_repeat_it_are_shown() -> None:
    tags = Tags(
        report(
            skipped_files=[{"file": "a.jpg", "reason": "a.jpg: is empty"}],
            seconds={"extract": 1.5, "train": 0.25, "total": 2.0},
            cache={"hits": 12, "extracted": 3, "skipped": 1},
            versions={"python": "3.11.7"},
        )
    )
    for text in ("a.jpg: is empty", "1.50 s", "12", "3.11.7", "fic train --config run.json"):
        assert text in tags.text


@pytest.mark.parametrize("classes", [2, 20, 200, 1000])
def test_any_number_of_classes_has_its_confusions(classes: int) -> None:
    page = report(labels=[f"class {number}" for number in range(classes)])
    tags = Tags(page)
    assert len(page) < MOST_BYTES
    assert ("confusions" in tags.charts) == (classes <= 500)
    assert "class 1" in tags.text


def test_a_report_of_many_pictures_stays_below_its_limit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = [Path(f"{number}.jpg") for number in range(600)]
    noise = {path: jpeg(random) for path in paths[:40]}
    noise |= {path: noise[paths[index % 40]] for index, path in enumerate(paths)}
    pictures = ReportPictures(
        thumbnails=lambda wanted: {path: noise[path] for path in wanted},
        shown=pictures_on_map(600),
        bottlenecks=random.standard_normal((MOST_ON_MAP, 8)),
    )
    validation = [row(path, "cat", "dog", 0.9) for path in paths]
    page = report(pictures, validation=validation)
    assert 500_000 < len(page.encode()) <= MOST_BYTES


def jpeg(random: np.random.Generator) -> bytes:
    """Return a thumbnail of noise, which no JPEG makes small."""
    import cv2

    pixels = random.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
