"""Mistakes that several commands answer alike."""

import errno
import sys
from pathlib import Path

import pytest

from fic.options import CacheOptions
from fic.runs import Run
from tests.fic.cli.conftest import Fic, assert_one_line


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
        ["extract", "--data", "a", "--shard", "1/2", "--ray"],
        ["train", "--data", "a", "--ray", "auto", "--omit-bottlenecks"],
        ["train", "--data", "a", "--out", "s3://bucket/run"],
        ["cache", "info", "--bottleneck-dir", "s3://bucket/cache"],
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


@pytest.mark.parametrize("command", ["train", "extract", "audit", "tune"])
def test_a_data_set_without_its_option_is_told_the_option(fic: Fic, command: str) -> None:
    result = fic(command, "photos")
    assert result.code == 2
    assert "'photos' belongs to no option; a data set is given as --data photos" in result.err


def test_a_second_data_set_is_not_told_the_option_again(fic: Fic) -> None:
    assert "'b' belongs to no option\n" in fic("train", "--data", "a", "b").err


@pytest.mark.parametrize(
    "arguments",
    [["predict", "nowhere", "a.jpg"], ["export", "."], ["evaluate", ".", "--data", "a"]],
)
def test_a_folder_without_a_run_is_one_line(fic: Fic, arguments: list[str]) -> None:
    assert_one_line(fic(*arguments), 1, "that `fic train` wrote")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", ""],
        ["train", "--data", "photos", "--out", ""],
        ["train", "--config", ""],
        ["predict", "run", ""],
        ["predict", "", "photo.jpg"],
        ["evaluate", "run", "--data", ""],
        ["export", "run", "--bottleneck-dir", ""],
        ["split", ""],
        ["cache", "info", "--bottleneck-dir", ""],
    ],
)
def test_an_empty_argument_is_not_this_folder(fic: Fic, arguments: list[str]) -> None:
    done = fic(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "it is empty" in done.err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "photos", "--lr"],
        ["train", "--data", "photos", "--weight-decay"],
        ["export", "run", "--max-difference"],
        ["cache", "prune", "--unused-days"],
    ],
)
def test_a_number_that_is_none_is_refused_by_its_option(
    fic: Fic, arguments: list[str], value: str
) -> None:
    done = fic(*arguments, value)
    assert (done.code, done.out) == (2, "")
    assert arguments[-1] in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--data", "loop"),
        ("train", "--data", "photos", "--out", "loop"),
        ("train", "--data", "photos", "--out", "out", "--weight-file", "loop"),
        ("audit", "--data", "photos", "--out", "loop"),
        ("split", "photos", "--out", "loop"),
        ("split", "loop"),
        ("evaluate", "loop", "--data", "photos"),
        ("export", "run", "--out", "loop"),
        ("predict", "run", "loop"),
        ("report", "run", "--out", "loop"),
    ],
    ids=" ".join,
)
def test_a_link_that_leads_to_itself_is_one_line(
    arguments: tuple[str, ...], fic: Fic, photos: Path, run: Run
) -> None:
    Path("loop").symlink_to("loop")
    base = ("--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32")
    result = fic(*arguments, *(base if arguments[0] == "train" else ()))
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "loop" in result.err.splitlines()[-1]
    assert "decisions" not in result.err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "the memory of this machine does not suffice"),
        (ImportError("onnx.so: failed to map segment"), "cannot be loaded (onnx.so: failed to map"),
        (RuntimeError("can't start new thread"), "no more threads can be started here"),
        (OSError(errno.ENOSPC, "No space left on device"), "standard output or a file: no space"),
        (OSError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
    ],
    ids=["memory", "library", "threads", "disk", "temporary"],
)
def test_a_machine_that_has_too_little_is_one_line(
    error: Exception, says: str, fic: Fic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr("fic.cache.maintenance.cache_info", fail)
    assert_one_line(fic("cache", "info"), 1, says)


def test_a_damaged_shard_is_set_aside_before_it_can_be_removed(
    fic: Fic, warm: CacheOptions
) -> None:
    (shard,) = warm.bottleneck_dir.glob("*/shard-*.h5")
    shard.write_bytes(b"junk")
    where = ("--bottleneck-dir", warm.bottleneck_dir)
    told = fic("cache", "info", *where)
    assert f"damaged: {shard.name}; `fic cache verify` sets it aside" in told.out
    assert fic("cache", "verify", *where).code == 1
    told = fic("cache", "info", *where)
    assert f"damaged-{shard.name}; `fic cache prune --damaged` removes it" in told.out
    assert "1 other files" in fic("cache", "prune", "--damaged", *where).out
