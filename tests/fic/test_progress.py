"""Progress of the library: bars where somebody watches, and silence by argument."""

import sys

import pytest

from fic.progress import Bars, EpochFigures, Silence, shown


def test_bars_are_shown_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(shown(None), Bars)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(shown(None), Silence)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert isinstance(shown(None), Bars)
    assert isinstance(shown(False), Silence)
    own = Silence()
    assert shown(own) is own


def test_bars_say_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    bars = shown(True)
    bars.start("extracting", 10, unit="image", done=4)
    bars.advance(5, 1)
    bars.note("engine onnx")
    bars.finish()
    bars.epoch(EpochFigures(epoch=1, loss=1, accuracy=0, val_loss=2, val_accuracy=1), 3)
    out, errors = capsys.readouterr()
    assert out == ""
    assert "hits=4" in errors
    assert "engine onnx\n" in errors
    assert "epoch   1/3  loss 1.0000" in errors
