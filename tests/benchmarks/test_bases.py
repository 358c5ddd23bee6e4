import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fic.bases import BASES, Base
from fic.bases.figures import FIGURES

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks/bases.py"


def measure(folder: Path, **options: str) -> dict[str, Any]:
    """Measure the smallest base against itself, and return its row."""
    given = {"base": "mobilenet_0.25", "against": "mobilenet_0.25", "rounds": "1", "count": "3"}
    given |= {"results": "bases.json", "write": "bases.md"}
    arguments = [word for name, value in (given | options).items() for word in (f"--{name}", value)]
    subprocess.run(
        [sys.executable, PROGRAM, *arguments], cwd=folder, check=True, capture_output=True
    )
    return read_row(folder)


def read_row(folder: Path) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = json.loads((folder / "bases.json").read_text("utf-8"))["rows"]
    return rows["mobilenet_0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    measure(folder)
    return folder


def cells(page: Path) -> list[list[str]]:
    """Return the lines of the page that are about a base."""
    lines = page.read_text("utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]


def known(base: Base) -> list[str]:
    millions = f"{base.parameters / 1e6:.2f} M"
    return [f"`{base.name}`", str(base.size), str(base.features), millions]


def test_the_page_of_the_docs_is_about_the_bases_of_the_table() -> None:
    found = [line[:4] for line in cells(ROOT / "docs/bases.md")]
    assert found == [known(base) for base in BASES.values()]


def test_the_page_of_the_docs_has_the_figures_that_fic_bases_shows() -> None:
    for line in cells(ROOT / "docs/bases.md"):
        figures = FIGURES[line[0].strip("`")]
        assert (float(line[4]), float(line[7])) == (figures.top1, figures.speed), line[0]


@pytest.mark.slow
def test_a_base_is_measured_at_two_sizes(folder: Path) -> None:
    row = read_row(folder)
    assert row["sizes"] == [224, 192]
    assert all(0 < difference <= 1e-3 for difference in row["differences"])
    # Four bytes for each weight, and no more than the graph around them.
    parameters = BASES["mobilenet_0.25"].parameters
    assert 0.9 * 4 * parameters < row["bytes"] < 1.2 * 4 * parameters
    assert row["pictures_per_second"] > 0
    assert row["relative_speed"] > 0


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(folder: Path) -> None:
    before = read_row(folder)
    # Nothing can be measured in no time.
    assert measure(folder, timeout="0") == before


@pytest.mark.slow
def test_a_page_shows_what_was_not_measured(folder: Path) -> None:
    lines = {line[0]: line for line in cells(folder / "bases.md")}
    measured, not_measured = lines["`mobilenet_0.25`"], lines["`mobilenet_0.5`"]
    assert (len(measured), measured[:4]) == (8, known(BASES["mobilenet_0.25"]))
    assert not_measured == [*known(BASES["mobilenet_0.5"]), "63.3", "not measured: not tried"]
