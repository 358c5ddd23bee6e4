"""What holds for the whole: imports point one way, and nothing heavy loads before it is needed."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import (
    PACKAGES,
    ROOT,
    Function,
    Module,
    arrows,
    functions,
    imports,
    levels,
    listing,
    read_modules,
    read_programs,
    wing_arrows,
)

# fic -> fic_export -> fic_runtime, and nothing the other way.
MAY_NOT_IMPORT = {
    "fic": set[str](),
    "fic_export": {"fic"},
    "fic_runtime": {"fic", "fic_export"},
}
# Inside a package: what each name of its listing may import of it, and nothing else. The ground is
# what every wing may stand on. `graphs.spec` is that module of the wing and no other.
FIC_GROUND = {"errors", "options", "progress", "digests", "fingerprint"}
EXPORT_GROUND = {"errors", "options", "versions"}
RUNTIME_GROUND = {
    *("errors", "reading", "devices", "preprocessing", "results", "predictions"),
    *("streaming", "watching"),
}
ALLOWED = {
    "fic": {
        "errors": set[str](),
        "options": {"errors"},
        "progress": {"errors"},
        "digests": {"errors"},
        "fingerprint": {"errors"},
        "data": FIC_GROUND,
        "cache": {*FIC_GROUND, "data.remote"},
        "bases": {*FIC_GROUND, "cache", "data.remote"},
        "bottlenecks": {*FIC_GROUND, "bases", "cache", "data"},
        "heads": {*FIC_GROUND, "bases", "data"},
        "distributed": {*FIC_GROUND, "bottlenecks", "bases", "cache", "data"},
        "runs": {*FIC_GROUND, "heads", "bases", "data.remote"},
        "training": {
            *(*FIC_GROUND, "runs", "heads", "bottlenecks", "bases", "data", "distributed"),
        },
        "exporting": {*FIC_GROUND, "runs", "bases", "cache", "data"},
        "prediction": {*FIC_GROUND, "training", "bases", "runs", "heads", "bottlenecks", "data"},
        "insight": {
            *(*FIC_GROUND, "training", "runs", "heads", "bottlenecks", "bases", "cache", "data"),
            "distributed",
        },
        "cli": {
            *(*FIC_GROUND, "__init__", "bases", "bottlenecks", "cache", "data", "distributed"),
            *("exporting", "heads", "insight", "prediction", "runs", "training"),
        },
        "__main__": {"cli"},
        "__init__": {
            *("bases", "data", "errors", "exporting", "insight", "options", "runs", "training"),
        },
    },
    "fic_export": {
        "errors": set[str](),
        "options": {"errors", "fits"},  # which hold what was fitted
        "versions": {"errors"},
        "drawn_pictures": {"errors"},
        "signing": {"errors"},
        "fits": set[str](),  # statistics of numbers, which know no ONNX
        "graphs": EXPORT_GROUND,
        "conversion": {*EXPORT_GROUND, "graphs"},
        "quantization": {*EXPORT_GROUND, "graphs"},
        "triton": {*EXPORT_GROUND, "graphs"},
        "bundle": {
            *(*EXPORT_GROUND, "conversion", "drawn_pictures", "fits", "graphs", "quantization"),
            *("signing", "triton"),
        },
        "__init__": {
            *(*EXPORT_GROUND, "bundle", "conversion", "quantization", "signing", "triton"),
        },
    },
    "fic_runtime": {
        "errors": set[str](),
        "reading": set[str](),
        "predictions": set[str](),
        "devices": {"errors"},
        "preprocessing": {"errors"},
        "results": {"errors", "reading"},
        "streaming": {"errors", "devices"},
        "watching": {"errors", "predictions"},
        "images": RUNTIME_GROUND,
        "graphs": RUNTIME_GROUND,
        "bundle": {*RUNTIME_GROUND, "graphs.spec", "graphs.protobuf"},
        "heads": {*RUNTIME_GROUND, "graphs", "bundle"},
        "explaining": {*RUNTIME_GROUND, "heads", "images", "bundle", "graphs"},  # it runs a graph
        "classifier": {*RUNTIME_GROUND, "explaining", "heads", "images", "bundle", "graphs"},
        "multi_classifier": {
            *(*RUNTIME_GROUND, "classifier", "explaining", "heads", "images", "bundle", "graphs"),
        },
        "diagnostics": {*RUNTIME_GROUND, "classifier", "heads", "images", "bundle", "graphs"},
        "server": {
            *(*RUNTIME_GROUND, "__init__", "classifier", "multi_classifier", "heads", "images"),
            *("bundle", "graphs", "diagnostics"),
        },
        "cli": {
            *(*RUNTIME_GROUND, "__init__", "classifier", "multi_classifier", "diagnostics"),
            *("server", "explaining", "heads", "images", "bundle", "graphs"),
        },
        "__main__": {"cli"},
        "__init__": {*RUNTIME_GROUND, "classifier", "multi_classifier", "explaining"},
    },
}
MOST_NAMES = 20  # of a listing, __init__ and __main__ among them
MOST_LEVELS = 11  # of names of a listing that stand on each other
MOST_PARAMETERS = 8
MOST_LINES = 60  # without the docstring
RUNTIME_DEPENDENCIES = {"numpy", "onnxruntime", "cv2"}
SIGNATURE_DEPENDENCIES = {"cryptography"}
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


def not_allowed(module: Module) -> list[str]:
    """Return what a module imports of its package against the table."""
    names = [each.name for each in read_modules(module.package)]
    found = []
    for target in sorted(imports(module, names)):
        parts = target.split(".")[1:] or ["__init__"]
        outside = parts[0] != module.wing
        starts = {".".join(parts[:stop]) for stop in range(1, len(parts) + 1)}
        if outside and not starts & ALLOWED[module.package].get(module.wing, set()):
            found.append(f"{module.name} -> {target}")
    return found


def module_of(package: str, name: str, code: str) -> Module:
    """Return a module that is not on the disk."""
    file = PACKAGES[package].joinpath(*name.split(".")[1:]).with_suffix(".py")
    return Module(name, file, ast.parse(code))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_listing_is_in_the_table_of_arrows(package: str) -> None:
    assert set(listing(package)) <= set(ALLOWED[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_along_the_arrows_of_the_table(package: str) -> None:
    assert [line for module in read_modules(package) for line in not_allowed(module)] == []


@pytest.mark.parametrize(
    "code",
    [
        "from fic.training import train",
        "import fic.training.pipeline as pipeline",
        "from fic import training",
        "from ..training.head import train_head",
        "def late():\n    from fic.training import train",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fic.training import train",
    ],
)
def test_an_import_against_the_arrows_is_seen_wherever_it_stands(code: str) -> None:
    (found,) = not_allowed(module_of("fic", "fic.data.new", code))
    assert found.startswith("fic.data.new -> fic.training")


def test_one_module_of_a_wing_may_be_allowed_and_the_others_not() -> None:
    code = "from ..graphs.spec import Tensor\nfrom ..graphs.graph import Graph"
    found = not_allowed(module_of("fic_runtime", "fic_runtime.bundle.new", code))
    assert found == ["fic_runtime.bundle.new -> fic_runtime.graphs.graph"]


def test_a_module_outside_the_table_may_import_nothing() -> None:
    assert not_allowed(module_of("fic", "fic.extra", "from fic.errors import FicError"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_of_a_package_goes_in_a_circle(package: str) -> None:
    levels(arrows(package))


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match=r"^b -> c -> b$"):
        levels({"a": ["b"], "b": ["c"], "c": ["b"]})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_listing_can_be_taken_in_at_a_glance(package: str) -> None:
    assert len(listing(package)) <= MOST_NAMES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_not_built_too_high(package: str) -> None:
    assert max(levels(wing_arrows(package)).values()) <= MOST_LEVELS


def functions_of(package: str) -> list[Function]:
    return [function for module in read_modules(package) for function in functions(module)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_takes_few_parameters(package: str) -> None:
    """Commands aside, which have a parameter for each option."""
    found = functions_of(package)
    assert found
    large = [each for each in found if each.parameters > MOST_PARAMETERS and not each.is_command]
    assert [(each.parameters, each.name) for each in large] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_fits_in_the_eye(package: str) -> None:
    long = [each for each in functions_of(package) if each.lines > MOST_LINES]
    assert [(each.lines, each.name) for each in long] == []


def test_programs_beside_the_packages_keep_the_same_limits() -> None:
    found = [function for module in read_programs() for function in functions(module)]
    assert len(found) > 100
    large = [each for each in found if each.parameters > MOST_PARAMETERS]
    long = [each for each in found if each.lines > MOST_LINES]
    assert [each.name for each in (*large, *long)] == []


def test_the_structure_can_be_printed_into_a_pipe_that_is_closed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        printed = subprocess.run(
            [sys.executable, ROOT / "tests/structure.py"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    assert (printed.returncode, printed.stderr) == (0, "")


def test_functions_are_measured_as_a_caller_and_a_reader_meet_them() -> None:
    code = (
        "class Box:\n"
        "    def put(self, a, /, b, *c, d=1, **e):\n"
        '        """Two\n\n        lines."""\n'
        "        def inner(x):\n            return x\n"
        "        return inner\n"
        "    @staticmethod\n    def made(a): ...\n"
        "@click.command()\n@click.option('--a')\ndef command(a): ...\n"
    )
    found = list(functions(module_of("fic", "fic.new", code)))
    assert found == [
        Function("fic.new.Box.put", 5, 4, False),
        Function("fic.new.Box.put.inner", 1, 2, False),
        Function("fic.new.Box.made", 1, 1, False),
        Function("fic.new.command", 1, 1, True),
    ]


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
    if file.name == "signature.py":  # an extra, which is imported where a key is given
        allowed |= SIGNATURE_DEPENDENCIES
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
