"""`fic predict`: with a run, or with a head in a file."""

import csv
import json
from pathlib import Path

import pytest

from fic.heads.keras_files import save_files
from fic.runs import Run
from fic_runtime.images.picture_files import find_pictures
from tests.fic.cli.conftest import Fic, assert_one_line


def test_prediction_prints_the_best_labels(fic: Fic, cold_run: Run, photos: Path) -> None:
    result = fic("predict", cold_run.folder, photos / "red", "--top-k", "2")
    lines = result.out.splitlines()
    assert result.code == 0
    assert len(lines) == 8
    path, answers = lines[0].split("\t")
    assert path == str(photos / "red/0.jpg")
    assert len(answers.split("  ")) == 2


@pytest.fixture
def head_file(cold_run: Run, fic: Fic) -> tuple[str, ...]:
    """Return the arguments for the head of the cold run, saved by itself."""
    save_files(
        cold_run.head(),
        cold_run.labels,
        weight_file=Path("top.h5"),
        label_file=Path("files/labels.json"),
    )
    return (
        *("--weight_file", "top.h5", "--label_file", "files/labels.json", "--weights", "none"),
        *("--base_model", "mobilenet_0.25", "--image_size", "32"),
        *("--bottleneck_dir", str(cold_run.cache_options.bottleneck_dir)),
    )


def test_a_head_in_a_file_predicts_like_its_run(
    fic: Fic, cold_run: Run, photos: Path, head_file: tuple[str, ...]
) -> None:
    expected = fic("predict", cold_run.folder, photos / "red", photos / "blue/0.jpg")
    assert len(expected.out.splitlines()) == 9
    assert fic("predict", *head_file, photos / "red", photos / "blue/0.jpg") == expected
    assert fic("predict", *head_file, photos / "blue/0.jpg", "--img_dir", photos / "red").code == 0


def test_the_folder_of_pictures_may_be_an_option_of_a_run_too(
    fic: Fic, cold_run: Run, photos: Path
) -> None:
    expected = fic("predict", cold_run.folder, photos / "red")
    assert fic("predict", cold_run.folder, "--img-dir", photos / "red") == expected


@pytest.mark.parametrize(
    ("without", "says"),
    [
        ("--weight_file", "--label-file goes with --weight-file"),
        ("--label_file", "--weight-file needs --label-file"),
        ("--base_model", "--weight-file needs --base-model"),
    ],
)
def test_what_is_missing_beside_a_head_file_is_named(
    fic: Fic, photos: Path, head_file: tuple[str, ...], without: str, says: str
) -> None:
    place = head_file.index(without)
    result = fic("predict", *head_file[:place], *head_file[place + 2 :], "--img_dir", photos)
    assert result.code == 2
    assert says in result.err


def test_a_head_file_without_pictures_is_wrong_usage(fic: Fic, head_file: tuple[str, ...]) -> None:
    result = fic("predict", *head_file)
    assert result.code == 2
    assert "--img-dir" in result.err


def test_a_run_and_a_head_file_are_not_mixed(
    fic: Fic, cold_run: Run, photos: Path, head_file: tuple[str, ...]
) -> None:
    result = fic("predict", cold_run.folder, photos, *head_file)
    assert result.code == 2
    assert "is a run: give either RUN or --weight-file" in result.err


def test_a_head_that_does_not_fit_is_one_line(
    fic: Fic, photos: Path, head_file: tuple[str, ...]
) -> None:
    result = fic("predict", *head_file, "--base_model", "mobilenet_0.5", photos)
    assert_one_line(result, 1, "takes bottlenecks of 256, but mobilenet_0.5 cut at")


def test_prediction_in_a_table_has_a_head_and_a_row_a_picture(
    fic: Fic, cold_run: Run, photos: Path
) -> None:
    result = fic("predict", cold_run.folder, photos / "red", "--top-k", "2", "--csv")
    head, *rows = csv.reader(result.out.splitlines())
    assert head == ["file", "label", "probability", "label_2", "probability_2", "error"]
    assert [Path(row[0]) for row in rows] == find_pictures([photos / "red"])
    assert {row[1] for row in rows} <= set(cold_run.labels)


def test_prediction_is_either_json_or_a_table(fic: Fic, cold_run: Run, photos: Path) -> None:
    result = fic("predict", cold_run.folder, photos / "red", "--json", "--csv")
    assert (result.code, result.out) == (2, "")


def test_prediction_in_json_is_an_object_a_line(fic: Fic, cold_run: Run, photos: Path) -> None:
    (photos / "red/3.png").write_bytes(b"no picture")
    result = fic("predict", cold_run.folder, photos / "red", "--top-k", "3", "--json")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 1
    assert [Path(each["file"]).name[0] for each in answers] == list("01234567")
    assert "error" in answers[3]
    assert answers[0]["top"][0]["label"] == answers[0]["label"]
    assert sum(each["probability"] for each in answers[0]["top"]) == pytest.approx(1, abs=1e-4)


def test_a_run_takes_no_notice_of_defaults_for_a_head_file(
    fic: Fic, cold_run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_PREDICT_WEIGHTS", "none")
    assert fic("predict", cold_run.folder, photos / "red").code == 0
