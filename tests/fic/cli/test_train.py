"""`fic train`: what it does, what it writes into the record, and the mistakes that it answers."""

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fic.bases import models as base_models
from fic.bottlenecks import extraction
from fic.cache.maintenance import cache_info
from fic.cli import cli
from fic.options import CacheOptions
from fic.runs import Run
from tests.fic.cli.conftest import Fic, Result, assert_one_line


def test_training_says_what_it_did(train: Fic, tmp_path: Path) -> None:
    result = train("--out", "my run")
    assert result.code == 0
    assert "3 classes: blue, green, red; 20 pictures for training, 4 for validation" in result.out
    assert "validation accuracy" in result.out
    assert "0 bottlenecks extracted" in result.out
    assert "24 from the cache" in result.out
    assert (tmp_path / "my run/report.html").is_file()


def test_of_many_classes_the_first_are_named(train: Fic, tmp_path: Path, make_photos: Any) -> None:
    photos = make_photos(tmp_path / "many", 2)
    for number in range(9):
        shutil.copytree(photos / "red", photos / f"{number}")
    out = train("--data", photos).out
    assert "12 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, blue and 2 more; " in out


def test_skipped_pictures_are_listed_at_the_end(train: Fic, photos: Path) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    (photos / "red/1.png").write_bytes(b"no picture either")
    result = train()
    assert result.code == 0
    *_, title, one, two = result.err.splitlines()
    assert title == "pictures skipped: 2"
    assert "red/0.jpg" in one
    assert "red/1.png" in two


def test_spellings_with_underscores_are_the_same(
    fic: Fic, photos: Path, warm: CacheOptions
) -> None:
    result = fic(
        *("train", "--data", photos, "--base_model", "mobilenet_0.25", "--weights", "none"),
        *("--image_size", "32", "--bottleneck_dir", warm.bottleneck_dir),
        *("--bottlenecks_batch_size", "4", "--batch_size_train", "8", "--val_split", "0.3"),
        *("--epochs", "1", "--cache_dtype", "float32", "--on_error", "skip"),
    )
    assert result.code == 0
    record = Run(Path("run")).record
    assert record["bottlenecks"]["batch_size"] == 4
    assert record["training"]["batch_size"] == 8
    assert record["source"]["val_split"] == 0.3
    assert record["cache"]["extracted"] == 0


def test_every_option_of_the_training_reaches_the_record(train: Fic, photos: Path) -> None:
    result = train(
        *("--epochs", "3", "--lr", "0.002", "--patience", "1", "--seed", "5", "--logs", "logs"),
        *("--engine", "onnx", "--views", "2", "--batch-size-train", "7", "--weight-decay", "0.1"),
        *("--head", "mlp:8,0.1", "--optimizer", "adamw", "--class-weights", "balanced"),
        *("--label-smoothing", "0.2", "--monitor", "accuracy"),
    )
    assert result.code == 0
    record = Run(Path("run")).record
    training = {
        **{"epochs": 3, "batch_size": 7, "learning_rate": 0.002, "patience": 1, "seed": 5},
        **{"logs": str(Path("logs").absolute()), "weight_decay": 0.1, "optimizer": "adamw"},
        **{"head": "mlp:8,0.1", "load_weights": None, "extend_classes": False},
        **{"class_weights": "balanced", "label_smoothing": 0.2, "monitor": "accuracy"},
        **{"omit_bottlenecks": False, "fine_tune": 0},
        **{"fine_tune_learning_rate": 1e-4, "fine_tune_epochs": 5},
    }
    assert record["training"] == training
    assert record["bottlenecks"]["engine"] == "onnx"
    assert record["bottlenecks"]["views"] == 2
    assert record["source"]["data"] == str(photos)
    assert list(Path("logs").rglob("events*"))


def test_a_run_can_be_repeated_from_its_record(train: Fic, fic: Fic) -> None:
    train("--seed", "4", "--optimizer", "sgd", "--val-split", "0.3", "--out", "one")
    assert fic("train", "--config", "one/run.json", "--out", "two").code == 0
    one, two = (Path(name, "head.keras").read_bytes() for name in ("one", "two"))
    assert one == two
    assert Run(Path("two")).record["training"] == Run(Path("one")).record["training"]


def test_what_is_said_beside_a_record_comes_first(train: Fic, fic: Fic, photos: Path) -> None:
    train("--seed", "4", "--out", "one")
    sides = ("--train", photos, "--val", photos)
    assert fic("train", "--seed", "5", *sides, "--config", "one", "--out", "two").code == 0
    record = Run(Path("two")).record
    assert (record["training"]["seed"], record["training"]["epochs"]) == (5, 2)
    assert record["source"]["data"] is None
    assert record["source"]["train"] == str(photos)


@pytest.mark.parametrize("missing", ["source", "base", "bottlenecks", "training"])
def test_a_record_with_a_part_missing_is_one_line(fic: Fic, run: Run, missing: str) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record[missing] = None
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    result = fic("train", "--config", run.folder, "--out", "again")
    assert_one_line(result, 1, f"has no '{missing}' to be repeated")


def test_every_field_of_the_options_is_an_option(fic: Fic) -> None:
    """Else --config would forget it."""
    from fic.cli.option_values import _parameters
    from fic.options import BaseOptions, TrainingOptions

    names = {parameter.name for parameter in cli.commands["train"].params}
    for kind in (BaseOptions, CacheOptions, TrainingOptions):
        assert set(_parameters(kind).values()) <= names


@pytest.mark.fine_tune
def test_options_of_the_whole_network_reach_the_record(train: Fic) -> None:
    result = train(
        *("--omit_bottlenecks", "--fine-tune", "2", "--fine-tune-lr", "0.002"),
        *("--fine-tune-epochs", "1"),
    )
    assert result.code == 0
    training = Run(Path("run")).record["training"]
    assert training["omit_bottlenecks"] is True
    assert training["fine_tune"] == 2
    assert training["fine_tune_learning_rate"] == 0.002
    assert training["fine_tune_epochs"] == 1
    assert "head trained through the whole network in" in result.out
    assert "2 layers of the base fine-tuned in" in result.out


@pytest.mark.fine_tune
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--omit-bottlenecks", "--views", "2"), "each epoch draws views of its own"),
        (("--omit-bottlenecks", "--create-bottleneck"), "--create-bottleneck is for the cache"),
        (("--omit-bottlenecks", "--cache-dtype", "float16"), "--cache-dtype is for the cache"),
        (("--fine-tune-lr", "0.1"), "--fine-tune-lr needs --fine-tune N"),
        (("--fine-tune-epochs", "3"), "--fine-tune-epochs needs --fine-tune N"),
        (("--fine-tune", "-1"), "--fine-tune"),
    ],
)
def test_options_of_the_whole_network_that_do_not_go_together_are_wrong_usage(
    train: Fic, arguments: tuple[str, ...], said: str
) -> None:
    result = train(*arguments)
    assert result.code == 2
    assert said in result.err


def test_a_list_trains_and_is_measured(
    train: Fic, fic: Fic, photos: Path, list_pictures: Callable[..., Path]
) -> None:
    list_pictures(photos, Path("list.csv"), val=4)
    assert train("--data", "list.csv").code == 0
    assert Run(Path("run")).record["images"] == {"train": 18, "val": 6}
    assert json.loads(fic("evaluate", "run", "--data", "list.csv", "--json").out)["images"] == 6


def test_the_environment_gives_defaults_and_the_command_line_wins(
    train: Fic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_TRAIN_BATCH_SIZE_TRAIN", "7")
    monkeypatch.setenv("FIC_TRAIN_EPOCHS", "9")
    assert train("--epochs", "2").code == 0
    training = Run(Path("run")).record["training"]
    assert (training["batch_size"], training["epochs"]) == (7, 2)


def test_a_default_that_makes_no_sense_is_wrong_usage(
    train: Fic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_TRAIN_VIEWS", "many")
    result = train()
    assert result.code == 2
    assert "--views" in result.err


def one_class(photos: Path) -> None:
    shutil.rmtree(photos / "red")
    shutil.rmtree(photos / "green")


def empty_class(photos: Path) -> None:
    (photos / "white").mkdir()


def no_classes(photos: Path) -> None:
    for name in ("red", "green", "blue"):
        shutil.rmtree(photos / name)


def a_file(photos: Path) -> None:
    shutil.rmtree(photos)
    photos.write_text("hello")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (shutil.rmtree, "no such folder"),
        (a_file, "is a file, not a folder"),
        (one_class, "needs at least two class folders, found 1 (blue)"),
        (empty_class, "white: no pictures"),
        (no_classes, "no class folders"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_one_line(
    train: Fic, photos: Path, change: Callable[[Path], Any], says: str
) -> None:
    change(photos)
    assert_one_line(train(), 1, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base-model", "resnet5"], "the nearest are resnet50"),
        (["--weights", "missing.h5"], "missing.h5: cannot be read"),
        (["--weights", "text.h5"], "these are not weights of mobilenet_0.25"),
        (["--weights", "."], "Is a directory"),
        (["--image-size", "8"], "too small"),
        (["--bottleneck-tensorname", "conv_pw_99"], "no layer 'conv_pw_99'; the nearest are"),
        (["--out", "photos/run"], "lies inside the pictures"),
        (["--out", "run", "--logs", "run/logs"], "lies inside the run folder"),
        (["--out", "text.h5"], "is a file"),
        (["--out", "."], "holds other files"),
        (["--bottleneck-dir", "text.h5"], "text.h5"),
        (["--bottleneck-dir", "/proc/fic"], "/proc/fic"),
        (["--logs", "text.h5/logs"], "Not a directory"),
        (["--lr", "1e38", "--epochs", "3"], "use a smaller --lr"),
        (["--weight-file", "top.onnx"], "the name must end in .keras, .h5"),
        (["--weight-file", "text.h5/top.h5"], "text.h5/top.h5: cannot be written"),
        (["--label-file", "labels.txt"], "the name must end in .json"),
        (["--out", "run", "--label-file", "run/map.json"], "lies inside the run folder"),
    ],
)
def test_a_mistake_is_one_line(train: Fic, arguments: list[str], says: str) -> None:
    Path("text.h5").write_text("hello")
    result = train(*arguments)
    *steps, error = result.err.splitlines()
    assert_one_line(Result(result.code, result.out, error), 1, says)
    assert all(line.startswith(("engine ", "epoch ")) for line in steps)


def test_ctrl_c_has_exit_code_130(train: Fic, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fic.training.pipeline.read_pictures", interrupt)
    result = train()
    assert_one_line(replace(result, err=result.err.lstrip()), 130, "interrupted")


def test_a_cache_of_rubbish_is_made_anew(
    train: Fic, warm: CacheOptions, caplog: pytest.LogCaptureFixture
) -> None:
    for file in warm.bottleneck_dir.rglob("*"):
        if file.is_file() and file.name != "lock":
            file.write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING, "fic"):
        result = train()
    assert result.code == 0
    assert "24 bottlenecks extracted" in result.out
    assert "set aside" in caplog.text


def test_a_shard_of_wrong_bottlenecks_is_named(
    train: Fic, monkeypatch: pytest.MonkeyPatch, warm: CacheOptions
) -> None:
    from fic.bottlenecks.engines import OnnxEngine

    original = OnnxEngine.run
    monkeypatch.setattr(OnnxEngine, "run", lambda self, pixels: 1.5 * original(self, pixels))
    (shard,) = warm.bottleneck_dir.rglob("shard-*.h5")
    assert_one_line(train(), 1, str(shard))


def test_a_warm_training_builds_no_base(train: Fic, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("a Keras base was built")

    monkeypatch.setattr(base_models, "build_base", build)
    assert train("--lr", "0.1").code == 0


def test_files_that_are_left_out_are_told_on_one_line_and_kept(train: Fic, photos: Path) -> None:
    for number in (0, 2):
        (photos / f"red/{number}.jpg").write_bytes(b"")
        (photos / f"red/{number}.jpg").rename(photos / f"red/{number}.heic")
    (photos / "red/4.jpg").rename(photos / "red/4")
    result = train("--out", "run")
    line = (
        "Used 22 of 24 files, 1 of them pictures by content only: 1 without a suffix; "
        "left out: 2 .heic; convert HEIC to JPEG first, with heif-convert or, on macOS, sips"
    )
    assert result.err.splitlines().count(line) == 1
    run = Run(Path("run"))
    assert set(run.left_out.values()) == {".heic"}
    assert {path.name for path in run.left_out} == {"0.heic", "2.heic"}
    assert run.record["files"] == {"used": 22, "left_out": 2}
    assert [Path(name).name for name in run.record["files_by_content"]] == ["4"]


def test_verbose_lists_every_file_that_is_left_out(
    train: Fic, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "red/notes.txt").touch()
    assert train("--out", "run", "--verbose").code == 0
    assert f"left out: {photos / 'red/notes.txt'} (.txt)" in caplog.messages


def test_a_broken_line_of_a_list_is_skipped_and_told(
    train: Fic, photos: Path, list_pictures: Callable[..., Path]
) -> None:
    file = list_pictures(photos, Path("list.csv"))
    with file.open("a") as stream:
        stream.write("gone1.jpg,red\ngone2.jpg,red\n")
    result = train("--data", file, "--out", "run", "--on-error", "skip")
    assert result.code == 0
    assert "list.csv, line 26: no such file: gone1.jpg" in result.err
    assert "list.csv, line 27: no such file: gone2.jpg" in result.err
    assert len(Run(Path("run")).skipped) == 2
    assert train("--data", file, "--out", "other", "--on-error", "fail").code == 1


@pytest.mark.parametrize("argument", ["--data", "--out"])
def test_an_empty_argument_is_no_folder(train: Fic, argument: str) -> None:
    result = train(argument, "")
    assert result.code == 2
    assert "it is empty; give a path" in result.err


def test_pictures_with_two_labels_are_told_and_kept(train: Fic, photos: Path) -> None:
    for number in (0, 2):
        shutil.copy(photos / f"red/{number}.jpg", photos / f"blue/red-{number}.jpg")
    assert "same picture in two classes: 2 (" in train("--out", "run").err
    assert len(Run(Path("run")).record["duplicates"]["two_classes"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_sigterm_commits_what_was_extracted_as_ctrl_c_does(
    train: Fic, empty: CacheOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = extraction._decode, []

    def terminated(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 8:
            time.sleep(1)  # the first ones have come to the main thread by now
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return decode(*arguments)

    monkeypatch.setattr(extraction, "_decode", terminated)
    handler = signal.getsignal(signal.SIGTERM)
    result = train("--bottlenecks-batch-size", "2")
    assert result.code == 143
    assert "interrupted; what was extracted so far is in the cache" in result.err
    assert sum(entry.images for entry in cache_info(empty.bottleneck_dir)) > 0
    assert signal.getsignal(signal.SIGTERM) is handler
