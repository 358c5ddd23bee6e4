"""One command shows how everything grows; here its smallest cases."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks/growth.py"


def test_a_line_for_each_figure_and_a_column_for_each_power_of_ten(tmp_path: Path) -> None:
    given = ["--only", "runs", "top", "--most", "10", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, PROGRAM, *given], check=True, capture_output=True, text=True
    )
    head, _, *lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert head == ["counted in", "10"]
    assert {line[0]: line[1] for line in lines} == {
        "small runs, s": "runs",
        "opening the cache after them, ms": "runs",
        "small runs: peak, MB": "runs",
        "Prediction.top(1), ms": "labels",
        "Prediction.top(1): peak, MB": "labels",
    }
    assert all(float(line[2]) > 0 for line in lines)
    assert not list(tmp_path.iterdir())
