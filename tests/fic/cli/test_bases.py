"""`fic bases`: the table of bases."""

import json
import subprocess
import sys

from fic.runs import Run
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
