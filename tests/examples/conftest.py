"""The programs of examples/, run as their users run them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests/data/bundle-v1"


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `examples/PROGRAM` to its end."""
    return subprocess.run(
        [sys.executable, ROOT / "examples" / program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
