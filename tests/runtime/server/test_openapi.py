"""What a generator of requests finds that goes by the server's own description."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis")

ROOT = Path(__file__).parents[3]
EXAMPLES = 3  # of each operation; by hand some hundred, see docs/guides/serving.md


@pytest.mark.slow
@pytest.mark.parametrize("heads", [False, True], ids=["one head", "several heads"])
def test_requests_made_from_the_document_find_nothing(server, golden, heads, tmp_path):
    running = server(golden, *(("--head", f"a={golden}") if heads else ()))
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{running.port}/openapi.json",
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--phases", "coverage,fuzzing"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.runtime.server.schemathesis_hooks",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout
