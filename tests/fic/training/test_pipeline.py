import csv
import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from fic.bases import models as base_models
from fic.cache.maintenance import cache_info
from fic.data import Source
from fic.errors import CacheError, DataError, UnknownBaseError
from fic.heads.standalone import read_labels
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.runs import Run
from fic_export.errors import OutputError
from fic_runtime.errors import ImageError

QUICK = TrainingOptions(epochs=2)


def test_a_run_folder_holds_what_it_should(cold_run: Run) -> None:
    assert {path.name for path in cold_run.folder.iterdir()} == {
        *("run.json", "metrics.json", "history.csv", "labels.txt", "head.keras"),
        *("report.html", "validation.csv"),
    }


def test_a_cold_run_extracts_every_picture(cold_run: Run) -> None:
    assert cold_run.record["cache"] == {"hits": 0, "extracted": 24, "skipped": 0}
    assert cold_run.record["engine"] in ("onnx", "keras")


def test_a_head_on_random_weights_learns_the_colours(cold_run: Run) -> None:
    assert cold_run.metrics["val"]["accuracy"] >= 0.8


def test_a_record_holds_every_option_and_the_times(cold_run: Run) -> None:
    record = cold_run.record
    assert set(record["seconds"]) == {"extract", "train", "total"}
    assert all(seconds > 0 for seconds in record["seconds"].values())
    assert record["training"]["epochs"] == 20
    assert record["base"]["base_model"] == "mobilenet_0.25"
    assert record["source"]["val_split"] == 0.25
    assert record["labels"] == ["blue", "green", "red"]
    assert {"fast-image-classification", "keras", "tensorflow"} <= set(record["versions"])


def test_metrics_are_those_of_the_validation(cold_run: Run) -> None:
    metrics = json.loads((cold_run.folder / "metrics.json").read_text(encoding="utf-8"))
    val = metrics["val"]
    assert {"accuracy", "top_5", "per_class", "confusion_matrix"} <= set(val)
    assert sum(map(sum, val["confusion_matrix"])) == cold_run.record["images"]["val"]
    assert list(val["per_class"]) == ["blue", "green", "red"]


def test_history_has_a_line_for_each_epoch(cold_run: Run) -> None:
    with (cold_run.folder / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_labels_are_a_line_each(cold_run: Run) -> None:
    text = (cold_run.folder / "labels.txt").read_text(encoding="utf-8")
    assert text == "blue\ngreen\nred\n"


def test_another_rate_extracts_nothing_and_builds_no_base(
    fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("a Keras base was built")

    monkeypatch.setattr(base_models, "build_base", build)
    run = fit(options=replace(QUICK, learning_rate=0.1, seed=3))
    assert run.record["cache"] == {"hits": 24, "extracted": 0, "skipped": 0}


def test_bottlenecks_are_extracted_again_on_request(fit: Any, warm: CacheOptions) -> None:
    before = {path.name for path in warm.bottleneck_dir.rglob("shard-*.h5")}
    run = fit(cache=replace(warm, recompute=True))
    assert run.record["cache"] == {"hits": 0, "extracted": 24, "skipped": 0}
    after = {path.name for path in warm.bottleneck_dir.rglob("shard-*.h5")}
    assert after
    assert not after & before
    assert run.cache_options.recompute is False


def test_only_the_bottlenecks_of_the_pictures_at_hand_are_extracted_again(
    fit: Any, photos: Path, warm: CacheOptions
) -> None:
    (photos / "red" / "0.jpg").unlink()
    fit(cache=replace(warm, recompute=True))
    (folder,) = cache_info(warm.bottleneck_dir)
    assert (folder.images, folder.duplicates) == (24, 0)


def test_one_seed_gives_the_same_head_to_the_byte(fit: Any) -> None:
    one = (fit().folder / "head.keras").read_bytes()
    assert (fit().folder / "head.keras").read_bytes() == one


def test_no_epochs_evaluate_only(fit: Any) -> None:
    run = fit(options=TrainingOptions(epochs=0))
    assert run.record["best_epoch"] == 0
    assert run.metrics["val"]["images"] > 0
    assert (run.folder / "history.csv").read_text() == ""
    assert "evaluated without any training" in (run.folder / "report.html").read_text()


def test_the_same_seed_gives_the_same_answers(fit: Any, tmp_path: Path) -> None:
    one, two = (fit(out=tmp_path / name) for name in ("one", "two"))
    assert one.validation() == two.validation()
    assert one.metrics == two.metrics


def test_two_folders_are_trained_on_as_they_are(fit: Any, photos: Path) -> None:
    run = fit(source=Source(train=photos, val=photos))
    assert run.record["images"] == {"train": 24, "val": 24}
    assert run.record["cache"] == {"hits": 24, "extracted": 0, "skipped": 0}


def test_a_folder_stands_for_the_source_that_it_is(fit: Any, photos: Path) -> None:
    assert fit(source=str(photos)).record["source"]["data"] == str(photos)


def test_a_csv_file_gives_the_run_of_its_folder(
    fit: Any, photos: Path, tmp_path: Path, list_pictures: Any
) -> None:
    file = list_pictures(photos, tmp_path / "list.csv")
    folder = fit(out=tmp_path / "folder")
    listed = fit(source=Source(data=file, val_split=0.25))
    assert listed.metrics == folder.metrics
    assert listed.record["cache"] == {"hits": 24, "extracted": 0, "skipped": 0}


def test_the_record_says_where_the_list_is_from_every_folder(
    fit: Any, photos: Path, tmp_path: Path, list_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_pictures(photos, tmp_path / "list.csv", val=4)
    monkeypatch.chdir(tmp_path)
    run = fit(source=Source(data=Path("list.csv")))
    assert run.record["source"]["data"] == str(tmp_path / "list.csv")
    assert run.record["images"] == {"train": 18, "val": 6}


def test_the_head_and_its_labels_are_saved_where_one_asks(fit: Any, tmp_path: Path) -> None:
    run = fit(weight_file=tmp_path / "deep/top.h5", label_file=tmp_path / "files/labels.json")
    assert read_labels(tmp_path / "files/labels.json") == run.labels
    loaded = keras.models.load_model(tmp_path / "deep/top.h5", compile=False)
    bottlenecks = np.random.default_rng(0).random((4, 256), np.float32)
    np.testing.assert_array_equal(
        loaded.predict_on_batch(bottlenecks), run.head().predict_on_batch(bottlenecks)
    )


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("top.txt", OutputError, "the name must end in"),
        ("run/top.h5", OutputError, "lies inside the run folder"),
        ("photos/red/top.h5", DataError, "lies inside the pictures"),
    ],
)
def test_a_place_where_the_head_cannot_go_is_known_before_anything_is_read(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Any, says: str
) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("pictures were read")

    monkeypatch.setattr("fic.training.pipeline.read_pictures", read)
    with pytest.raises(error, match=says):
        fit(weight_file=tmp_path / name)


def test_views_and_float16_are_trained_on(fit: Any, warm: CacheOptions) -> None:
    run = fit(cache=replace(warm, views=2))
    assert run.record["bottlenecks"]["views"] == 2
    assert run.record["cache"]["extracted"] == run.record["images"]["train"]


def test_bad_pictures_are_counted_and_listed(fit: Any, photos: Path) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    (photos / "red/gone.png").symlink_to("nowhere.png")
    run = fit()
    assert run.record["cache"]["skipped"] == 2
    listed = {Path(each["file"]).name: each["reason"] for each in run.record["skipped_files"]}
    assert set(listed) == {"0.jpg", "gone.png"}
    assert all(reason.count("\n") == 0 for reason in listed.values())


def test_a_bad_picture_can_end_the_training(fit: Any, photos: Path, warm: CacheOptions) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"red/0\.jpg"):
        fit(cache=replace(warm, on_error="fail"))


def test_a_class_without_a_readable_picture_is_refused(fit: Any, photos: Path) -> None:
    for number, path in enumerate((photos / "red").iterdir()):
        path.write_bytes(b"no picture %d" % number)
    with pytest.raises(DataError, match="class 'red': none of its training pictures"):
        fit()


def test_a_validation_without_a_readable_picture_is_refused(
    fit: Any, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "val/red").mkdir(parents=True)
    (tmp_path / "val/red/0.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the validation pictures"):
        fit(source=Source(train=photos, val=tmp_path / "val"))


def test_a_weights_file_is_found_from_every_working_folder(
    fit: Any, base: BaseOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fic.bases import find_base
    from fic.bases.models import build_base

    model = build_base(find_base("mobilenet_0.25"), weights="none", size=32, seed=9)
    model.save_weights(tmp_path / "my.weights.h5")
    monkeypatch.chdir(tmp_path)
    cache = CacheOptions(bottleneck_dir=tmp_path / "other", engine="keras")
    run = fit(base=replace(base, weights="my.weights.h5"), cache=cache)
    monkeypatch.chdir("/")
    assert Run(run.folder).frozen_base().model.output_shape == (None, 256)


# --- where results go -----------------------------------------------------------------------------


def test_a_later_run_takes_the_place_of_an_earlier_one_which_is_kept_beside_it(fit: Any) -> None:
    for epochs in (3, 2, 1):
        run = fit(options=replace(QUICK, epochs=epochs))
    assert run.record["training"]["epochs"] == 1
    earlier = Run(run.folder.with_name("run.previous"))
    assert earlier.record["training"]["epochs"] == 2
    assert earlier.head().output_shape == run.head().output_shape
    assert {path.name for path in run.folder.parent.glob("*run*")} == {"run", "run.previous"}


def test_what_stands_where_the_earlier_run_would_be_kept_is_not_touched(
    fit: Any, tmp_path: Path
) -> None:
    fit()
    (tmp_path / "run.previous").mkdir()
    (tmp_path / "run.previous/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"run\.previous: holds other files"):
        fit()
    assert (tmp_path / "run.previous/notes.txt").read_text() == "mine"


def test_the_head_is_on_the_disk_before_anything_else_of_a_run(
    fit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> str:
        raise RuntimeError("a mistake in the report")

    monkeypatch.setattr("fic.training.pipeline.render_report", fail)
    with pytest.raises(RuntimeError):
        fit()
    assert "run.unfinished" in caplog.text
    (kept,) = tmp_path.glob("*.unfinished/head.keras")
    assert keras.models.load_model(kept).output_shape == (None, 3)


def test_a_run_that_its_disk_does_not_take_is_written_elsewhere_whole(
    fit: Any, monkeypatch: pytest.MonkeyPatch, warm: CacheOptions, tmp_path: Path
) -> None:
    write_text = Path.write_text

    def full(path: Path, *arguments: Any, **named: Any) -> int:
        if path.name == "metrics.json" and warm.bottleneck_dir not in path.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_text(path, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"run: cannot be written \(No space left.*unfinished"):
        fit()
    run = Run(warm.bottleneck_dir / "run.unfinished")
    assert run.head().output_shape == (None, 3)
    assert 0 <= run.metrics["val"]["accuracy"] <= 1
    assert not list(tmp_path.glob("run*"))


def test_a_file_beside_the_run_that_cannot_be_written_leaves_the_run(
    fit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fic.heads.keras_files._save_marked", full)
    with pytest.raises(OutputError, match=r"top\.h5: .*; the run itself is whole, in .*run$"):
        fit(weight_file=tmp_path / "top.h5")
    assert Run(tmp_path / "run").head().output_shape == (None, 3)
    assert not (tmp_path / "top.h5").exists()


def test_a_run_needs_no_folder_for_temporary_files(
    fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("fic.runs.writing.tempfile", SimpleNamespace(gettempdir=refuse))
    assert fit().metrics["val"]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ({"out": "photos/run"}, DataError),
        ({"out": "photos"}, DataError),
        ({"bottleneck_dir": "photos/cache"}, DataError),
        ({"logs": "photos/logs"}, DataError),
        ({"bottleneck_dir": "run/cache"}, OutputError),
        ({"bottleneck_dir": "run"}, OutputError),
        ({"logs": "run/logs"}, OutputError),
        ({"out": "."}, OutputError),
    ],
)
def test_results_are_kept_apart(
    fit: Any,
    warm: CacheOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: dict[str, str],
    error: type[Exception],
) -> None:
    """A run folder is replaced whole, and results among pictures would be a class."""
    monkeypatch.setattr(
        "fic.training.pipeline.read_pictures", None
    )  # it is refused before any work
    places = {name: tmp_path / place for name, place in where.items()}
    with pytest.raises(error):
        fit(
            out=places.get("out", tmp_path / "run"),
            cache=replace(warm, bottleneck_dir=places.get("bottleneck_dir", warm.bottleneck_dir)),
            options=replace(QUICK, logs=places.get("logs")),
        )


def test_pictures_inside_an_earlier_run_are_not_deleted(
    fit: Any, cold_run: Run, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(cold_run.folder, tmp_path / "old")
    inside = photos.rename(tmp_path / "old/photos")
    with pytest.raises(OutputError, match="holds photos beside an earlier result"):
        fit(source=Source(data=inside), out=tmp_path / "old")
    assert len(list(inside.rglob("*.jpg"))) == 12


def test_logs_that_cannot_be_written_are_noticed_before_the_work(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("fic.training.pipeline.read_pictures", None)
    with pytest.raises(OutputError, match="file"):
        fit(options=replace(QUICK, logs=tmp_path / "file/logs"))


def test_an_unknown_base_is_noticed_before_the_work(
    fit: Any, base: BaseOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fic.training.pipeline.read_pictures", None)
    with pytest.raises(UnknownBaseError):
        fit(base=replace(base, base_model="resnet5"))


def test_a_failed_training_leaves_the_earlier_run(
    fit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = fit().metrics

    def fail(*_: Any) -> str:
        raise CacheError("no room")

    monkeypatch.setattr("fic.runs.writing._csv", fail)
    with pytest.raises(CacheError):
        fit(options=replace(QUICK, seed=4))
    assert Run(tmp_path / "run").metrics == before
    assert not (tmp_path / "run.previous").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".run")]
