"""What holds for the whole: imports point one way, and nothing heavy loads before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "fic": ROOT / "fic",
    "fic_export": ROOT / "export/fic_export",
    "fic_runtime": ROOT / "runtime/fic_runtime",
}
# fic -> fic_export -> fic_runtime, and nothing the other way.
MAY_NOT_IMPORT = {
    "fic": set[str](),
    "fic_export": {"fic"},
    "fic_runtime": {"fic", "fic_export"},
}
RUNTIME_DEPENDENCIES = {"numpy", "onnxruntime", "cv2"}
SERVER_DEPENDENCIES = {"prometheus_client", "python_multipart", "starlette", "uvicorn"}
HEAVY = ("numpy", "cv2", "onnxruntime", "onnx", "tf2onnx", "h5py", "keras", "tensorflow")

MODULES = [file for folder in PACKAGES.values() for file in sorted(folder.rglob("*.py"))]


def module_id(file: Path) -> str:
    return str(file.relative_to(ROOT))


def package_of(file: Path) -> str:
    return next(name for name, folder in PACKAGES.items() if file.is_relative_to(folder))


def absolute_imports(file: Path) -> Iterator[str]:
    """Yield the top-level names that a module imports, in its functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def test_every_package_has_modules() -> None:
    assert {package_of(file) for file in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("file", MODULES, ids=module_id)
def test_imports_point_one_way(file: Path) -> None:
    assert not MAY_NOT_IMPORT[package_of(file)] & set(absolute_imports(file))


@pytest.mark.parametrize(
    "file", [file for file in MODULES if package_of(file) == "fic_runtime"], ids=module_id
)
def test_the_runtime_needs_nothing_but_its_three_dependencies(file: Path) -> None:
    allowed = set(sys.stdlib_module_names) | RUNTIME_DEPENDENCIES
    if file.parent.name == "server":  # an extra, which only `fic-runtime serve` imports
        allowed |= SERVER_DEPENDENCIES
    assert set(absolute_imports(file)) <= allowed


@pytest.mark.parametrize("module", ["fic", "fic.cli", "fic_runtime", "fic_runtime.cli"])
def test_nothing_heavy_loads_before_a_command_needs_it(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("module", ["fic", "fic_runtime"])
def test_help_of_every_command_loads_nothing_heavy(module: str) -> None:
    """`-X importtime` names each module as it loads, so nothing can hide from it."""
    listing = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in listing.stderr.splitlines()}
    assert "argparse" in loaded or "click" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_shipped(package: str) -> None:
    assert (PACKAGES[package] / "py.typed").exists()


@pytest.mark.parametrize("file", MODULES, ids=module_id)
def test_a_module_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", MODULES, ids=module_id)
def test_a_module_is_called_after_its_subject(file: Path) -> None:
    assert not {"utils", "util", "common", "core", "helpers", "helper", "misc"} & set(
        file.relative_to(ROOT).with_suffix("").parts
    )
