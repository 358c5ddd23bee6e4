"""The command, run in this process."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fic.cli import main
from fic.options import CacheOptions


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


def assert_one_line(result: Result, code: int, says: str) -> None:
    assert result.code == code
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("fic: ")
    assert says in line
