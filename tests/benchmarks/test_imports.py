"""Benchmarks are run by hand, so what they import may move away unseen; here it is looked up."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    file for folder in ("benchmarks", "examples", "fuzz") for file in (ROOT / folder).glob("*.py")
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_every_name_that_a_program_imports_from_fic_is_there(program: Path) -> None:
    missing = [
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fic")
        for name in node.names
        if not hasattr(import_module(str(node.module)), name.name)
    ]
    assert not missing


@pytest.mark.parametrize(
    "program", [path for path in PROGRAMS if path.parent.name != "fuzz"], ids=lambda path: path.name
)
def test_a_program_that_takes_arguments_has_a_help(program: Path) -> None:
    assert "sys.argv" not in program.read_text(encoding="utf-8")


def test_there_are_programs_that_import_from_fic() -> None:
    assert sum("from fic" in program.read_text(encoding="utf-8") for program in PROGRAMS) > 10
