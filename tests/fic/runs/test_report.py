import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.runs import Run
from fic.runs.report import render_report
from fic.runs.run import RunResults, ValidationRow
from fic.training.metrics import evaluate

EVIL = '<script>alert("x")</script> & "co"'


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and complains about unbalanced ones."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in {"meta", "img", "br"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(
    *,
    labels: list[str] | None = None,
    epochs: int = 3,
    validation: list[ValidationRow] | None = None,
) -> str:
    labels = labels or ["cat", "dog"]
    targets = np.arange(len(labels))
    answers = np.full((len(labels), len(labels)), 0.01)
    answers[:, 0] = 0.9
    figures = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.4}
    results = RunResults(
        record={"base": {"base_model": "mobilenet"}, "images": {"train": 10}, "best_epoch": 2},
        metrics={"val": evaluate(answers, targets, labels)},
        history=[{"epoch": epoch + 1, **figures} for epoch in range(epochs)],
        validation=validation or [],
    )
    return render_report(results)


def test_a_report_needs_no_network_and_no_script(cold_run: Run) -> None:
    page = (cold_run.folder / "report.html").read_text(encoding="utf-8")
    tags = Tags(page)
    assert not {"script", "link", "iframe", "object"} & set(tags.names)
    assert not re.search(r"https?:|//|@import|url\(", page.split("base64")[0])
    assert all(value.startswith("data:") for value in tags.values if ":" in value and "/" in value)


def test_a_report_is_well_formed() -> None:
    assert Tags(report()).names[0] == "html"


def test_names_of_classes_and_files_cannot_become_html(tmp_path: Path, make_photos: Any) -> None:
    make_photos(tmp_path, 1, labels=("a",))
    picture = (tmp_path / "a/0.jpg").rename(tmp_path / "<b>&.jpg")
    mistake = ValidationRow(path=picture, label=EVIL, predicted="<i>", probability=0.9)
    tags = Tags(report(labels=[EVIL, "b"], validation=[mistake]))
    assert "script" not in tags.names
    assert "i" not in tags.names
    assert EVIL in tags.text
    assert "<b>&.jpg" in tags.text


def test_the_worst_mistakes_come_first(tmp_path: Path, make_photos: Any) -> None:
    make_photos(tmp_path, 3, labels=("a",))
    answers = [
        ValidationRow(path=path, label="cat", predicted=predicted, probability=probability)
        for path, predicted, probability in zip(
            sorted((tmp_path / "a").iterdir()),
            ("dog", "cat", "dog"),
            (0.55, 0.99, 0.95),
            strict=True,
        )
    ]
    page = report(validation=answers)
    assert page.count("<img") == 2
    assert page.index("2.jpg") < page.index("0.jpg")
    assert "1.png" not in page


def test_a_picture_that_is_gone_is_left_out() -> None:
    gone = ValidationRow(path=Path("gone.jpg"), label="cat", predicted="dog", probability=0.9)
    assert "<img" not in report(validation=[gone])


def test_a_run_without_mistakes_says_so() -> None:
    assert "<p>None.</p>" in report()


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_curves_of_any_length_are_drawn(epochs: int) -> None:
    page = report(epochs=epochs)
    assert page.count("<polyline") == 4
    assert "nan" not in page.lower().split("</style>")[1]


def test_a_thousand_classes_have_no_matrix_of_a_million_cells() -> None:
    page = report(labels=[f"class {number}" for number in range(1000)])
    assert "metrics.json" in page
    assert len(page) < 500_000
