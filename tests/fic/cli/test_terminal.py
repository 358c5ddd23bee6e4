"""Progress on a terminal, and silence elsewhere."""

import json
import sys
from pathlib import Path

import pytest

from fic.options import CacheOptions
from fic.runs import Run
from tests.fic.cli.conftest import Fic


def test_no_bar_is_drawn_where_nobody_watches(train: Fic, empty: CacheOptions) -> None:
    result = train()
    assert result.code == 0
    assert "\r" not in result.out + result.err
    assert "\x1b" not in result.out + result.err
    assert [line for line in result.err.splitlines() if line.startswith("engine onnx: ")]


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


@pytest.mark.parametrize("command", ["audit", "tune", "export"])
def test_one_line_says_which_files_were_not_used(
    command: str, fic: Fic, photos: Path, warm: CacheOptions, cold_run: Run
) -> None:
    (photos / "red/notes.txt").write_text("no picture", "utf-8")
    pictures = ("--data", photos, "--bottleneck-dir", warm.bottleneck_dir, "--verbose")
    base = ("--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32")
    arguments = {
        "audit": ("audit", *base, "--json", *pictures),
        "tune": ("tune", *base, "--folds", "2", "--json", *pictures),
        "export": ("export", cold_run.folder, "--no-calibrate", "--no-known", *pictures),
    }
    result = fic(*arguments[command])
    assert result.code == 0
    assert result.err.count("Used 24 of 25 files; left out: 1 .txt") == 1
    if command == "audit":
        problems = [each["problem"] for each in json.loads(result.out)["files"]]
        assert problems.count("left out") == 1
    if command == "tune":
        [left_out] = json.loads(result.out)["left_out_files"]
        assert left_out == {"file": str(photos / "red/notes.txt"), "kind": ".txt"}
