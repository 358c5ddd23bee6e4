import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fic.data import Source
from fic.errors import CacheError, DataError, RunError
from fic.heads.keras_files import save_files
from fic.heads.standalone import HeadFile
from fic.options import BaseOptions
from fic.prediction import evaluate_run, predict_files
from fic.runs import Run
from fic_runtime.errors import ImageError
from fic_runtime.predictions import Prediction


def test_a_folder_comes_in_natural_order(cold_run: Run, photos: Path) -> None:
    for number in (2, 10, 1):
        shutil.copy(photos / "red/0.jpg", photos / f"img{number}.jpg")
    shutil.rmtree(photos / "red")
    shutil.rmtree(photos / "blue")
    shutil.rmtree(photos / "green")
    found = [path.name for path, _ in predict_files(cold_run.folder, [photos])]
    assert found == ["img1.jpg", "img2.jpg", "img10.jpg"]


def test_answers_are_those_of_the_validation(cold_run: Run) -> None:
    """More pictures than a batch holds, so that answers cannot slip from one to another."""
    rows = cold_run.validation() * 5
    answers = list(predict_files(cold_run.folder, [row.path for row in rows]))
    assert [path for path, _ in answers] == [row.path for row in rows]
    for row, (_, answer) in zip(rows, answers, strict=True):
        assert isinstance(answer, Prediction)
        assert answer.label == row.predicted
        assert answer.probability == pytest.approx(row.probability, abs=1e-4)


def test_a_bad_picture_is_an_answer_in_its_place(cold_run: Run, photos: Path) -> None:
    bad = photos / "red/1.png"
    bad.write_bytes(b"no picture")
    answers = dict(predict_files(cold_run.folder, [photos / "red", "missing.jpg"]))
    assert isinstance(answers[bad], ImageError)
    assert isinstance(answers[Path("missing.jpg")], ImageError)
    assert sum(isinstance(answer, Prediction) for answer in answers.values()) == 7


def test_what_was_left_out_is_known_with_the_answers(cold_run: Run, photos: Path) -> None:
    (photos / "red/notes.txt").write_text("no picture", "utf-8")
    answers = predict_files(cold_run, photos)
    assert [left_out.path for left_out in answers.files.left_out] == [photos / "red/notes.txt"]
    assert len(list(answers)) == answers.files.used == 24
    (photos / "red/0.jpg").write_bytes(b"no picture")
    figures = evaluate_run(cold_run, photos)
    assert figures["left_out_files"] == [{"file": str(photos / "red/notes.txt"), "kind": ".txt"}]
    assert [each["file"] for each in figures["skipped_files"]] == [str(photos / "red/0.jpg")]


def test_only_bad_pictures_are_no_crash(cold_run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    ((_, answer),) = predict_files(cold_run.folder, [tmp_path / "a.jpg"])
    assert isinstance(answer, ImageError)


def test_an_empty_folder_is_an_error(cold_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures in this folder"):
        list(predict_files(cold_run.folder, [tmp_path]))


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(RunError, match="give a folder that `fic train` wrote"):
        list(predict_files(tmp_path, [photos]))


def test_a_run_is_measured_on_other_pictures(
    cold_run: Run, tmp_path: Path, make_photos: Any, recorder: Any
) -> None:
    data = make_photos(tmp_path / "new", 4, first=200)
    figures = evaluate_run(cold_run.folder, data, progress=recorder)
    assert figures["images"] == 12
    assert figures["accuracy"] > 0.6


def test_figures_of_training_pictures_are_said_to_be_too_good(
    cold_run: Run, shared_photos: Path, photos: Path, recorder: Any
) -> None:
    evaluate_run(cold_run.folder, photos, progress=recorder)
    assert recorder.notes == []
    evaluate_run(cold_run.folder, shared_photos, progress=recorder)
    (note,) = recorder.notes
    assert note.startswith(f"{shared_photos}: the run was trained on pictures there")
    assert note.endswith(str(cold_run.folder / "metrics.json"))


def test_the_validation_side_of_a_list_is_not_said_to_be_trained_on(
    fit: Any, photos: Path, list_pictures: Any, recorder: Any
) -> None:
    file = list_pictures(photos, photos.parent / "list.csv", val=4)
    evaluate_run(fit(source=Source(data=file)), file, progress=recorder)
    assert recorder.notes == []


def test_figures_do_not_need_the_list_of_the_validation(run: Run, shared_photos: Path) -> None:
    (run.folder / "validation.csv").unlink()
    assert evaluate_run(run, shared_photos)["images"] == 24


def test_a_class_may_be_missing_in_the_measurement(cold_run: Run, photos: Path) -> None:
    shutil.rmtree(photos / "green")
    figures = evaluate_run(cold_run.folder, photos)
    assert figures["images"] == 16
    assert figures["per_class"]["green"]["recall"] is None
    assert len(figures["confusion_matrix"]) == 3


def test_a_run_is_measured_on_the_validation_side_of_a_file(
    cold_run: Run, photos: Path, list_pictures: Any
) -> None:
    figures = evaluate_run(cold_run.folder, list_pictures(photos, photos / "list.csv", val=4))
    assert figures["images"] == 6
    assert [each["images"] for each in figures["per_class"].values()] == [2, 2, 2]


@pytest.mark.parametrize("name", ["top.h5", "top.keras"])
def test_a_head_in_a_file_answers_like_its_run(
    cold_run: Run, photos: Path, tmp_path: Path, base: BaseOptions, name: str
) -> None:
    files = {"weight_file": tmp_path / name, "label_file": tmp_path / "labels.json"}
    save_files(cold_run.head(), cold_run.labels, **files)
    cache = cold_run.cache_options.bottleneck_dir
    loose = HeadFile(**files, base_options=base)
    answers = list(predict_files(loose, [photos], bottleneck_dir=cache))
    assert len(answers) == 24
    for (path, loosely), (same, whole) in zip(
        answers, predict_files(cold_run.folder, [photos]), strict=True
    ):
        assert isinstance(loosely, Prediction) and isinstance(whole, Prediction)
        assert (path, loosely.label) == (same, whole.label)
        assert loosely.probability == pytest.approx(whole.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("head", "is_new"), [("linear", False), ("mlp:8", True)], ids=["warm cache", "known base"]
)
def test_neither_keras_nor_tensorflow_is_imported_without_need(
    cold_run: Run, shared_photos: Path, tmp_path: Path, head: str, is_new: bool
) -> None:
    cache = tmp_path / "new" if is_new else cold_run.cache_options.bottleneck_dir
    base = ["--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32"]
    run, photo = str(tmp_path / "run"), str(shared_photos / "blue" / "0.jpg")
    options = ["--val-split", "0.25", "--epochs", "2", "--head", head]
    outputs = ["--out", run, "--weight-file", str(tmp_path / "top.keras")]
    outputs += ["--logs", str(tmp_path / "logs")]
    source = ["--data", str(shared_photos), "--bottleneck-dir", str(cache)]
    commands = [
        ["train", *source, *base, *options, *outputs],
        ["evaluate", run, "--data", str(shared_photos)],
        ["predict", run, photo],
    ]
    code = (
        "import sys\n"
        "from fic.cli import cli\n"
        f"for command in {commands}:\n"
        "    cli(command, standalone_mode=False)\n"
        "heavy = {'keras', 'tensorflow', 'tf2onnx', 'onnx', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{24 if is_new else 0} bottlenecks extracted" in done.stdout


def test_a_class_that_the_run_does_not_know_is_an_error(cold_run: Run, photos: Path) -> None:
    (photos / "green").rename(photos / "yellow")
    with pytest.raises(DataError, match="yellow"):
        evaluate_run(cold_run.folder, photos)


def test_bad_pictures_are_left_out_of_the_measurement(
    cold_run: Run, photos: Path, recorder: Any
) -> None:
    (photos / "green/0.jpg").write_bytes(b"no picture")
    figures = evaluate_run(cold_run.folder, photos, progress=recorder)
    assert figures["images"] == 23
    assert [note for note in recorder.notes if note.startswith("skipped") and "0.jpg" in note]


def test_a_measurement_without_readable_pictures_is_an_error(cold_run: Run, tmp_path: Path) -> None:
    (tmp_path / "data/red").mkdir(parents=True)
    (tmp_path / "data/red/a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture there could be read"):
        evaluate_run(cold_run.folder, tmp_path / "data")


def test_another_cache_can_be_given_where_the_run_s_own_cannot_be_made(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "file").write_text("no folder")
    record["bottlenecks"]["bottleneck_dir"] = str(tmp_path / "file" / "cache")
    monkeypatch.chdir(tmp_path)  # whose cache takes its place
    (tmp_path / "bottlenecks").write_text("no folder")
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CacheError, match="--bottleneck-dir"):
        evaluate_run(run.folder, photos)
    metrics = evaluate_run(run.folder, photos, bottleneck_dir=tmp_path / "mine")
    assert metrics["images"] == len(list(photos.glob("*/*.*")))
