"""What a stranger's `run.json` may decide when a training is repeated, and what not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fic.runs import Run
from tests.fic.cli.conftest import Fic, Result, assert_one_line

Stranger = Callable[..., Result]

HEAD = """
from pathlib import Path
Path("ran").touch()
import keras
def make(bottleneck, classes):
    return keras.layers.Dense(classes, activation="softmax")(bottleneck)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with things that a user would miss."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("settings.json", "thesis.h5", "files.sqlite"):
        (home / name).write_text(f"precious {name}")
    return home


@pytest.fixture
def stranger(fic: Fic, run: Run, photos: Path) -> Stranger:
    """Return a function that trains as a changed `run.json` says."""

    def train(*arguments: str | Path, **changes: dict[str, Any]) -> Result:
        record = dict(run.record)
        record["source"] = {**record["source"], "data": str(photos)}
        record["training"] = {**record["training"], "epochs": 1}
        for section, values in changes.items():
            record[section] = {**record[section], **values}
        Path("stranger.json").write_text(json.dumps(record), encoding="utf-8")
        return fic("train", "--config", "stranger.json", "--out", "again", *arguments)

    return train


def contents(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_code_of_a_head_that_a_run_names_is_not_run(stranger: Stranger) -> None:
    Path("head.py").write_text(HEAD)
    result = stranger(training={"head": "head.py:make"})
    assert result.code == 2
    assert "--config names head.py:make as the code of its head" in result.err
    assert not Path("ran").exists()
    assert not Path("again").exists()


@pytest.mark.parametrize("arguments", [["--trust-code"], ["--head", "head.py:make"]])
def test_code_is_run_when_the_command_line_says_so(
    stranger: Stranger, arguments: list[str]
) -> None:
    Path("head.py").write_text(HEAD)
    assert stranger(*arguments, training={"head": "head.py:make"}).code == 0
    assert Path("ran").exists()


def test_another_head_on_the_command_line_takes_the_place_of_code(stranger: Stranger) -> None:
    assert stranger("--head", "linear", training={"head": "gone.py:make"}).code == 0


def test_nothing_is_written_where_a_run_says(stranger: Stranger, home: Path) -> None:
    before = contents(home)
    result = stranger(
        source={
            "label_file": str(home / "settings.json"),
            "weight_file": str(home / "thesis.h5"),
            "out": str(home / "out"),
        },
        training={"logs": str(home / "logs")},
        bottlenecks={"bottleneck_dir": str(home)},
    )
    assert result.code == 0
    assert contents(home) == before
    assert f"--logs {home / 'logs'} of --config is left out" in result.err
    assert f"--bottleneck-dir {home} of --config is not a cache" in result.err
    assert Path("again/run.json").is_file()
    assert Path("bottlenecks").is_dir()


def test_a_run_of_ones_own_is_repeated_with_its_folders(stranger: Stranger, home: Path) -> None:
    result = stranger(
        "--trust-code",
        training={"logs": str(home / "logs")},
        bottlenecks={"bottleneck_dir": str(home / "cache")},
    )
    assert result.code == 0
    assert (home / "logs").is_dir()
    assert (home / "cache").is_dir()


def test_a_run_that_names_no_cache_is_used_with_that_of_the_working_folder(
    fic: Fic, run: Run, home: Path, photos: Path
) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["bottlenecks"]["bottleneck_dir"] = str(home)
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    before = contents(home)
    assert fic("predict", run.folder, photos / "red").code == 0
    assert fic("evaluate", run.folder, "--data", photos).code == 0
    assert contents(home) == before
    assert Path("bottlenecks").is_dir()


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"epochs": float("inf")}),
        ("training", {"epochs": 10**400}),
        ("training", {"epochs": -1}),
        ("training", {"epochs": True}),
        ("training", {"learning_rate": float("nan")}),
        ("training", {"head": "head\0.py:make"}),
        ("training", {"optimizer": ["adam"]}),
        ("base", {"image_size": "32"}),
        ("base", {"image_size": 1e999}),
        ("base", {"image_size": 10**9}),
        ("base", {"base_model": {}}),
        ("base", {"weights": "\0"}),
        ("bottlenecks", {"batch_size": 10**9}),
        ("bottlenecks", {"bottleneck_dir": 3}),
        ("bottlenecks", {"engine": "rm"}),
        ("source", {"val_split": 10**400}),
        ("source", {"data": "a\0b"}),
    ],
)
def test_a_value_that_makes_no_sense_is_one_line(
    stranger: Stranger, run: Run, fic: Fic, section: str, values: dict[str, Any]
) -> None:
    result = stranger(**{section: values})
    assert_one_line(result, 1, f"{section!r} makes no sense ({next(iter(values))} cannot be ")
    if section in ("base", "bottlenecks"):
        Path("stranger.json").replace(run.folder / "run.json")
        result = fic("predict", run.folder, "photo.jpg")
        assert_one_line(result, 1, f"{section!r} makes no sense ({next(iter(values))} cannot be ")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{" * 50 + "}" * 50, '{"format": 1' + "0" * 5000 + "}", "\0", '"\\ud800"'],
)
def test_a_record_that_cannot_be_read_is_one_line(fic: Fic, run: Run, text: str) -> None:
    (run.folder / "run.json").write_text(text, encoding="utf-8")
    for arguments in (["predict", run.folder, "photo.jpg"], ["train", "--config", run.folder]):
        assert_one_line(fic(*arguments), 1, "run.json")


@pytest.mark.parametrize(
    "values",
    [
        {"base": "../../home/evil"},
        {"base": "a/b"},
        {"dtype": "object"},
        {"shape": [10**12]},
        {"shape": ["256"]},
        {"shape": [0]},
        {"weights": 3},
    ],
)
def test_a_fingerprint_that_makes_no_sense_is_one_line(
    fic: Fic, run: Run, values: dict[str, Any]
) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["fingerprint"] |= values
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert_one_line(fic("predict", run.folder, "photo.jpg"), 1, "run.json: fingerprint: ")
