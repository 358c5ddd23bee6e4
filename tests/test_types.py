"""The types that the packages ship are whole, and say what a user may do and what not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATHS = os.pathsep.join(str(ROOT / folder) for folder in (".", "export", "runtime"))


def check(*arguments: str, folder: Path) -> tuple[int, str]:
    """Run a checker far from this project's own settings; return its exit code and its answer."""
    environment = {**os.environ, "MYPYPATH": PATHS, "PYTHONPATH": PATHS}
    # It would look on the network for a later release of itself.
    environment["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"
    run = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """Return a copy of the script of somebody who uses the runtime."""
    return Path(shutil.copy(ROOT / "tests/data/consumer.py", tmp_path))


def test_mypy_in_strict_mode_agrees_with_a_user_of_the_runtime(consumer: Path) -> None:
    options = ("--strict", "--config-file=", "--follow-imports=silent")
    assert check("mypy", *options, consumer.name, folder=consumer.parent)[0] == 0


def test_pyright_in_strict_mode_agrees_with_a_user_of_the_runtime(consumer: Path) -> None:
    pytest.importorskip("pyright")
    code, answer = check(
        "pyright", "--pythonpath", sys.executable, consumer.name, folder=consumer.parent
    )
    assert code == 0, answer
    assert "0 errors, 0 warnings, 0 informations" in answer


def test_every_public_symbol_of_the_runtime_has_a_known_type(tmp_path: Path) -> None:
    """Those of the server aside, whose types are Starlette's: pyright does not follow them here."""
    pytest.importorskip("pyright")
    _, answer = check(
        *("pyright", "--pythonpath", sys.executable),
        *("--verifytypes", "fic_runtime", "--ignoreexternal", "--outputjson"),
        folder=tmp_path,
    )
    found = json.loads(answer[answer.index("{") :])["typeCompleteness"]["symbols"]
    exported = [symbol for symbol in found if symbol["isExported"]]
    assert len(exported) > 500
    assert [
        symbol["name"]
        for symbol in exported
        if not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
        and not symbol["name"].startswith("fic_runtime.server.")
    ] == []
