import re
import shutil
from pathlib import Path

import pytest

import fic
from fic.errors import RunError
from fic.runs import Run
from fic_export.errors import OutputError
from tests.fic.runs.test_report import Tags

EARLIER = Path(__file__).parents[2] / "data/before-wings/run"


def tags_of(file: Path) -> Tags:
    return Tags(file.read_text(encoding="utf-8"))


def test_the_report_of_a_run_is_what_its_training_wrote(run: Run) -> None:
    written = (run.folder / "report.html").read_bytes()
    (run.folder / "report.html").unlink()
    assert fic.report(run) == run.folder / "report.html"
    assert (run.folder / "report.html").read_bytes() == written


def test_a_run_from_before_has_a_report_without_what_is_gone(tmp_path: Path) -> None:
    shutil.copytree(EARLIER, tmp_path / "run")
    tags = tags_of(fic.report(tmp_path / "run"))
    assert "confusions" in tags.charts
    assert "map" not in tags.charts
    assert not (tmp_path / "bottlenecks").exists()


def test_without_its_cache_a_report_has_pictures_and_no_map(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    tags = tags_of(fic.report(run.folder, out=out, bottleneck_dir=tmp_path / "gone"))
    assert "map" not in tags.charts
    assert "img" in tags.names
    assert not (tmp_path / "gone").exists()


def test_only_a_report_is_replaced(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    fic.report(run, out=out)
    fic.report(run, out=out)
    out.write_text("<!doctype html> mine")
    with pytest.raises(OutputError, match="is not a report"):
        fic.report(run, out=out)
    assert out.read_text() == "<!doctype html> mine"
    with pytest.raises(OutputError, match="is a folder"):
        fic.report(run, out=tmp_path)


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json there"):
        fic.report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "epoch,loss\n1,high\n", "epoch,loss\n1,2,3\n"])
def test_a_damaged_history_is_named(run: Run, content: str) -> None:
    (run.folder / "history.csv").write_text(content)
    if not content:
        assert run.history() == []
        return
    with pytest.raises(RunError, match=r"history\.csv: cannot be read"):
        fic.report(run)


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("metrics.json", r'"accuracy": [\d.]+', '"accuracy": NaN'),
        ("metrics.json", r'"accuracy": [\d.]+', '"accuracy": "x"'),
        ("metrics.json", '"per_class"', '"of_each"'),
        ("metrics.json", r'"confusion_matrix": \[', '"confusion_matrix": [[1], '),
        ("run.json", '"base_model": "[^"]+"', '"base_model": 7'),
        ("validation.csv", r"[\d.]+\n$", "nan\n"),
    ],
)
def test_figures_of_a_stranger_that_make_no_sense_are_one_sentence(
    run: Run, tmp_path: Path, file: str, before: str, after: str
) -> None:
    text = (run.folder / file).read_text("utf-8")
    changed = re.sub(before, lambda _: after, text, count=1)
    assert changed != text
    (run.folder / file).write_text(changed, "utf-8")
    with pytest.raises(RunError, match=r"(run|validation\.csv): .* \(.*\); train again$"):
        fic.report(run.folder, out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
