"""Progress on a terminal, and silence elsewhere."""

import sys

import pytest

from fic.options import CacheOptions
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
