"""`fic audit`: what may be wrong with a data set."""

import json
import shutil
from pathlib import Path

import pytest

from fic.options import CacheOptions
from fic.runs import Run
from tests.fic.cli.conftest import Fic, assert_one_line


@pytest.fixture
def audit(fic: Fic, photos: Path, warm: CacheOptions) -> Fic:
    """Return a function that audits the photos on a warm cache, with more arguments if wanted."""

    def run(*arguments: str | Path):
        return fic(
            *("audit", "--data", photos, "--base-model", "mobilenet_0.25", "--weights", "none"),
            *("--image-size", "32", "--bottleneck-dir", warm.bottleneck_dir, *arguments),
        )

    return run


def test_findings_are_printed_and_written(audit: Fic, photos: Path) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "red/copy.jpg")
    result = audit()
    assert result.code == 0
    assert "25 pictures of 3 classes, base mobilenet_0.25" in result.out
    assert "groups of duplicates: 1" in result.out
    assert {path.name for path in Path("audit").iterdir()} >= {"audit.json", "suspects.csv"}


def test_a_long_list_says_how_many_more_there_are(audit: Fic) -> None:
    out = audit().out  # each picture of the tests is tiny
    assert "files that are not what they seem: 24" in out
    assert out.count("take a larger picture") == 5
    assert "\n  and 19 more\n" in out


def test_json_is_one_object_with_the_paths_as_given(audit: Fic, photos: Path) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "red/copy.jpg")
    found = json.loads(audit("--json", "--out", "found").out)
    assert len(found["suspects"]) == 25
    assert found["duplicates"] == [[str(photos / "red/0.jpg"), str(photos / "red/copy.jpg")]]
    assert Path("found/audit.json").is_file()


def test_decisions_lead_to_a_data_set_to_train_on(audit: Fic, fic: Fic, photos: Path) -> None:
    audit()
    suspects = Path("audit/suspects.csv")
    first = suspects.read_text("utf-8").splitlines()[1].split(",")[0]
    suspects.write_text(
        suspects.read_text("utf-8").replace(",\n", ",reject\n", 1), encoding="utf-8"
    )
    result = fic("audit", "--apply", suspects, "--out", "cleaned.csv")
    assert (result.code, result.err) == (0, "")
    assert "23 pictures kept, 0 relabeled, 1 left out" in result.out
    listed = Path("cleaned.csv").read_text("utf-8")
    assert first not in listed and len(listed.splitlines()) == 24
    assert Path(first).is_file()
    again = json.loads(fic("audit", "--apply", suspects, "--out", "2.csv", "--json").out)
    assert again == {"kept": 23, "rejected": 1, "relabeled": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--folds", "9"], 1, "has 8 readable pictures, fewer than the 9 folds"),
        (["--folds", "1"], 2, "--folds"),
        (["--weights", "gone.h5"], 1, "gone.h5: cannot be read"),
        (["--apply", "suspects.csv"], 2, "--apply needs no pictures"),
        (["--base-model", "rose"], 1, "rose"),
    ],
)
def test_a_mistake_is_one_line(audit: Fic, arguments: list[str], code: int, says: str) -> None:
    result = audit(*arguments)
    assert result.code == code
    assert says in result.err
    assert not Path("audit").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Give either --data"),
        (["--apply", "gone.csv"], 2, "--apply needs --out"),
        (["--apply", "gone.csv", "--out", "cleaned"], 2, "ends in .csv"),
        (["--apply", "gone.csv", "--out", "cleaned.csv"], 1, "gone.csv: cannot be read"),
    ],
)
def test_wrong_usage_is_explained(fic: Fic, arguments: list[str], code: int, says: str) -> None:
    result = fic("audit", *arguments)
    assert result.code == code
    assert says in result.err


def test_one_class_is_refused(fic: Fic, tmp_path: Path, photos: Path) -> None:
    for label in ("green", "red"):
        shutil.rmtree(photos / label)
    assert_one_line(fic("audit", "--data", photos), 1, "needs at least two class folders")


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "--data", "photos", "--out", "x" * 300),
        ("compare", "--data", "photos", "--base-models", "a,b", "--out", "x" * 300 + ".html"),
        ("report", "run", "--out", "x" * 300 + ".html"),
        ("split", "photos", "--out", "x" * 300),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    arguments: tuple[str, ...], fic: Fic, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    for name in ("auditing.read_cached", "comparing.read_cached", "reporting.render_report"):
        monkeypatch.setattr(f"fic.insight.{name}", work)
    monkeypatch.setattr("fic.data.split_folders._write", work)
    assert_one_line(fic(*arguments), 1, "cannot be written (File name too long)")
