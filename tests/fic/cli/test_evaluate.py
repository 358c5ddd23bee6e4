"""`fic evaluate`: the figures of a run on other pictures."""

import json
import shutil
from pathlib import Path

from fic.runs import Run
from tests.fic.cli.conftest import Fic


def test_evaluation_prints_a_table_or_json(fic: Fic, cold_run: Run, photos: Path) -> None:
    shutil.rmtree(photos / "green")
    table = fic("evaluate", cold_run.folder, "--data", photos).out
    figures = json.loads(fic("evaluate", cold_run.folder, "--data", photos, "--json").out)
    assert f"accuracy {figures['accuracy']:.4f}" in table
    assert figures["images"] == 16
