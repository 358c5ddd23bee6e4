"""Pictures counted on a terminal."""

import io
import sys

import pytest

from fic_runtime import cli
from fic_runtime.cli import counting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_pictures_are_counted_on_a_terminal_where_the_answers_go_elsewhere(
    golden, album, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(counting, "_SECONDS_BETWEEN_COUNTS", -1)
    with pytest.raises(SystemExit):
        cli.main(["predict", str(golden), str(album)])
    assert "\r1 of 4 pictures\r2 of 4 pictures" in terminal.getvalue()
    assert "\r3 of 4 pictures\r\x1b[Kfic-runtime: " in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_pictures_are_counted_while_their_bottlenecks_are_extracted(
    golden, album, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(counting, "_SECONDS_BETWEEN_COUNTS", -1)
    with pytest.raises(SystemExit):
        cli.main(["extract", str(golden), str(album), "--out", str(tmp_path / "f.npz")])
    assert "\r3 of 4 pictures\r\x1b[Kfic-runtime: " in terminal.getvalue()
