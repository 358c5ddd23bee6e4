"""How the packages are built: what a listing of each shows, how deep its imports stand, how long
its functions are. `python tests/structure.py` prints it; tests/test_architecture.py holds it."""

import ast
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "fic": ROOT / "fic",
    "fic_export": ROOT / "export/fic_export",
    "fic_runtime": ROOT / "runtime/fic_runtime",
}
# What is run but not imported: its functions are held to the same limits.
PROGRAMS = ("benchmarks", "examples", "fuzz", "runtime/gpu", "runtime/html")
LARGEST = 5  # functions of each package that are printed


@dataclass(frozen=True)
class Module:
    """One file, by its dotted name; a folder's `__init__.py` has the name of the folder."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def wing(self) -> str:
        """The name under which a listing of the package shows it."""
        return (*self.name.split("."), "__init__")[1]


@dataclass(frozen=True)
class Function:
    """A function or method, with what a caller and a reader must take in."""

    name: str  # fic.training.pipeline.train
    parameters: int  # without self and cls
    lines: int  # without decorators, docstring, comments and blank lines around the docstring
    is_command: bool  # click calls it with the options of a command line


@functools.cache
def read_modules(package: str) -> tuple[Module, ...]:
    """Return every module of a package, sorted by name."""
    folder = PACKAGES[package]
    modules = (read_module(folder.parent, file) for file in folder.rglob("*.py"))
    return tuple(sorted(modules, key=lambda module: module.name))


def read_programs() -> tuple[Module, ...]:
    """Return every module beside the packages and the tests."""
    files = (file for folder in PROGRAMS for file in (ROOT / folder).rglob("*.py"))
    return tuple(read_module(ROOT, file) for file in sorted(files))


def read_module(home: Path, file: Path) -> Module:
    parts = file.relative_to(home).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, file, ast.parse(file.read_text(encoding="utf-8")))


def listing(package: str) -> list[str]:
    """Return the names of modules and folders in the package's folder, as `ls` shows them."""
    found = {
        path.stem if path.suffix == ".py" else path.name
        for path in PACKAGES[package].iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    return sorted(found)


def imports(module: Module, names: Iterable[str]) -> set[str]:
    """Return which of these modules it imports, in functions and under TYPE_CHECKING too.

    `from fic.data import Source` is an import of fic.data; `from fic import errors` and
    `from fic.data import source` are of the modules that they name.
    """
    known = set(names)
    found = set()
    for name in _imported(module):
        parts = name.split(".")
        longest = (".".join(parts[:stop]) for stop in range(len(parts), 0, -1))
        found |= {next((name for name in longest if name in known), "")}
    return found - {"", module.name}


def _imported(module: Module) -> Iterator[str]:
    is_folder = module.file.name == "__init__.py"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.name.split(".")
            above = above[: len(above) - node.level + is_folder] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def arrows(package: str) -> dict[str, set[str]]:
    """Return for each module of a package the modules of the same package that it imports."""
    modules = read_modules(package)
    names = [module.name for module in modules]
    return {module.name: imports(module, names) for module in modules}


def wing_arrows(package: str) -> dict[str, set[str]]:
    """Return for each name in the package's listing the other ones that it imports."""
    modules = read_modules(package)
    wing = {module.name: module.wing for module in modules}
    found: dict[str, set[str]] = {name: set() for name in listing(package)}
    for module in modules:
        targets = {wing[target] for target in imports(module, wing)}
        found[module.wing] |= targets - {module.wing}
    return found


def levels(graph: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return how many modules stand on each other below each module, itself counted.

    Raises:
        ValueError: for a circle, which it names.
    """
    level: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise ValueError(" -> ".join((*path[path.index(name) :], name)))
        if name not in level:
            below = [visit(each, (*path, name)) for each in sorted(graph[name])]
            level[name] = 1 + max(below, default=0)
        return level[name]

    for name in sorted(graph):
        visit(name, ())
    return level


def functions(module: Module) -> Iterator[Function]:
    """Yield every function of a module, methods and functions in functions too."""
    yield from _functions(module.tree, module.name, in_class=False)


def _functions(node: ast.AST, prefix: str, *, in_class: bool) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{child.name}"
            yield _measure(child, name, is_method=in_class)
            yield from _functions(child, name, in_class=False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}.{child.name}", in_class=True)
        else:
            yield from _functions(child, prefix, in_class=in_class)


def _measure(
    node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, is_method: bool
) -> Function:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    given = node.args
    count = len([*given.posonlyargs, *given.args, *given.kwonlyargs])
    count += sum(each is not None for each in (given.vararg, given.kwarg))
    bound = is_method and "staticmethod" not in decorators
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return Function(name, count - bound, lines, any(_is_of_click(each) for each in decorators))


def _is_of_click(decorator: str) -> bool:
    called = decorator.split("(")[0]
    return called.split(".")[-1] in {"command", "option", "argument", "group"}


def main() -> None:
    for package in PACKAGES:
        names = listing(package)
        of_names, of_modules = (
            max(levels(found(package)).values()) for found in (wing_arrows, arrows)
        )
        found = [function for module in read_modules(package) for function in functions(module)]
        print(
            f"{package}: {len(names)} names on {of_names} levels of imports; its modules stand on "
            f"{of_modules}"
        )
        print("  " + " ".join(names))
        plain = [function for function in found if not function.is_command]
        print(f"  most parameters of {len(plain)} functions")
        for function in sorted(plain, key=lambda each: -each.parameters)[:LARGEST]:
            print(f"  {function.parameters:6} {function.name}")
        print("  most lines, docstrings aside")
        for function in sorted(found, key=lambda each: -each.lines)[:LARGEST]:
            print(f"  {function.lines:6} {function.name}")


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Into `head`. What is left in the buffer goes nowhere, or Python complains as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
