"""`fic report`: the page of a run."""

import json
from pathlib import Path

import pytest

from fic.runs import Run
from tests.fic.cli.conftest import Fic, assert_one_line


def test_the_report_is_written_where_it_is_wanted(fic: Fic, run: Run) -> None:
    result = fic("report", run.folder, "--out", "page.html")
    assert (result.code, result.out, result.err) == (0, "report written to page.html\n", "")
    assert Path("page.html").read_text("utf-8").startswith("<!doctype html>")


def test_json_gives_the_figures_of_the_page(fic: Fic, run: Run) -> None:
    found = json.loads(fic("report", run.folder, "--json").out)
    assert found["report"] == str(run.folder / "report.html")
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert found["images"] == run.metrics["val"]["images"]
    assert 0 <= found["calibration_error"] <= 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone"], "gone: no such folder"),
        (["{run}", "--out", "gone/page.html"], "gone/page.html: cannot be written"),
        (["{run}", "--out", "."], "is a folder"),
    ],
)
def test_a_mistake_is_one_line(fic: Fic, run: Run, arguments: list[str], says: str) -> None:
    given = [argument.format(run=run.folder) for argument in arguments]
    assert_one_line(fic("report", *given), 1, says)
