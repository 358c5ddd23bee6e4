"""What keeps the pages from rotting: links, the index, and a reference that misses nothing."""

import importlib
import importlib.util
import pydoc
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from fic.cli import cli
from fic_runtime.cli import _parser as runtime_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Pages that are read in the repository, where MkDocs does not check their links.
LOOSE_PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(ROOT / "runtime" / page for page in ("README.md", "web/README.md", "html/README.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
PROJECTS = [
    ROOT / folder / "pyproject.toml" for folder in (".", "runtime", "runtime/gpu", "runtime/html")
]
_SOURCES = [
    file
    for folder in ("fic", "export", "runtime", "benchmarks", "examples", "fuzz", "docs")
    for pattern in ("*.py", "*.js", "*.ts")
    for file in sorted((ROOT / folder).rglob(pattern))
    if not {"node_modules", "built", "dist"} & set(file.relative_to(ROOT).parts)
]
# What names modules and files as they are; the changelog tells of those that were.
NAMING = [file for file in (*PAGES, *LOOSE_PAGES, *_SOURCES) if file.name != "CHANGELOG.md"]
REFERENCE = {
    "fic": DOCS / "reference/fic-python.md",
    "fic_export": DOCS / "reference/fic-export-python.md",
    "fic_runtime": DOCS / "reference/fic-runtime-python.md",
}
ERRORS = DOCS / "reference/errors.md"

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_DOTTED = re.compile(r"(?<![\w./-])(?:fic|fic_export|fic_runtime)(?:\.[A-Za-z_]\w*)+")
_PATH = re.compile(
    r"(?<![\w./-])(?:fic|fic_export|fic_runtime|export|runtime|tests|benchmarks|docs|examples|fuzz)"
    r"/[\w./-]*\w\.(?:py|md|js|ts|toml|yaml)\b"
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands() -> ModuleType:
    """Return what writes the reference of the commands."""
    spec = importlib.util.spec_from_file_location("commands", DOCS / "commands.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["commands"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


# --- the reference of the commands ---------------------------------------------------------------


def click_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from click_commands(each, f"{name} {each.name}")


CLICK_COMMANDS = dict(click_commands(cli, "fic"))


@pytest.mark.parametrize("name", ["fic", "fic-runtime"])
def test_every_command_and_option_has_help(commands: ModuleType, name: str) -> None:
    for command in commands.every_command(commands.find_command(name)):
        assert command.help, f"{command.name} says nothing"
        silent = [option.names for option in command.options if not option.help]
        assert not silent, f"{command.name}: {silent} say nothing"


def test_every_option_of_fic_is_in_the_reference(commands: ModuleType) -> None:
    page = commands.with_commands(read(DOCS / "reference/fic.md"))
    sections = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert sections.keys() == CLICK_COMMANDS.keys()
    for name, command in CLICK_COMMANDS.items():
        options = [each for each in command.params if isinstance(each, click.Option)]
        for option in options:
            assert re.search(rf"`.*{option.opts[-1]}\b.*`", sections[name]), option.opts


def test_every_option_of_the_runtime_is_in_the_reference(commands: ModuleType) -> None:
    """What `--help` prints of each command is what the page must have."""
    page = commands.with_commands(read(DOCS / "reference/fic-runtime.md"))
    sections = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    parser = runtime_parser()
    (parsers,) = [each.choices for each in parser._actions if hasattr(each.choices, "values")]
    assert sections.keys() == {parser.prog, *(f"{parser.prog} {name}" for name in parsers)}
    for name, each in parsers.items():
        for option in re.findall(r"--[a-z][a-z-]*", each.format_usage()):
            assert f"{option}" in sections[f"{parser.prog} {name}"]


def test_options_under_headings_stand_under_the_same_in_the_reference(
    commands: ModuleType,
) -> None:
    (train,) = [
        each
        for each in commands.every_command(commands.find_command("fic"))
        if each.name == "fic train"
    ]
    groups = list(dict.fromkeys(option.group for option in train.options))
    shown = re.findall(r"^([A-Z].*):$", CLICK_COMMANDS["fic train"].get_help(context()), re.M)
    assert groups == shown


def context() -> click.Context:
    return click.Context(CLICK_COMMANDS["fic train"], info_name="fic train")


# --- the Python reference ------------------------------------------------------------------------


@pytest.mark.parametrize("package", REFERENCE)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(package)
    (members,) = re.findall(r"^ +members: \[(.*?)\]", read(REFERENCE[package]), re.MULTILINE)
    errors = re.findall(r"^::: [\w.]+\.(\w+)$", read(ERRORS), re.MULTILINE)
    assert not set(module.__all__) - set(members.split(", ")) - set(errors)
    assert set(members.split(", ")) <= set(module.__all__)


@pytest.mark.parametrize("package", REFERENCE)
def test_every_error_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"{package}.errors")
    own = {
        f"::: {package}.errors.{name}"
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == module.__name__
    }
    assert own <= set(read(ERRORS).splitlines())


# --- pages ---------------------------------------------------------------------------------------


def test_every_page_is_in_the_index_of_the_site() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", read(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in PAGES]


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 150


def test_the_readme_leads_to_every_guide() -> None:
    linked = set(_LINK.findall(read(ROOT / "README.md")))
    assert {name_of(page) for page in (DOCS / "guides").glob("*.md")} <= linked


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    version = tomllib.loads(read(PROJECTS[0]))["project"]["version"]
    headings = re.findall(r"^## (.+)$", read(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings


@pytest.mark.parametrize("page", LOOSE_PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", read(page))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_that_are_named_exist() -> None:
    """`fic/cache/keys.py` in a page, a docstring or a comment is a path from the top."""
    missing = [
        f"{name_of(file)}: {path}"
        for file in NAMING
        for path in _PATH.findall(read(file))
        if not (ROOT / path).is_file()
    ]
    assert not missing


def test_modules_that_are_named_exist() -> None:
    """`fic.data.splitting` in a page, a docstring or a comment is a module, or a name in one."""
    missing = [
        f"{name_of(file)}: {name}"
        for file in NAMING
        for name in sorted(set(_DOTTED.findall(read(file))))
        if not name.endswith(".md") and pydoc.locate(name) is None
    ]
    assert not missing


# --- the repository ------------------------------------------------------------------------------


def test_the_address_of_the_project_is_the_same_everywhere() -> None:
    address = tomllib.loads(read(PROJECTS[0]))["project"]["urls"]["Repository"]
    files = [*PROJECTS, ROOT / "mkdocs.yml", ROOT / "CITATION.cff"]
    found = {
        name_of(file): set(re.findall(r"https://github\.com/[\w-]+/fast-[\w-]+", read(file)))
        for file in files
    }
    assert found == {name_of(file): {address} for file in files}


def test_the_citation_is_of_this_version() -> None:
    version = tomllib.loads(read(PROJECTS[0]))["project"]["version"]
    assert f"version: {version}\n" in read(ROOT / "CITATION.cff")


def test_distributions_say_who_made_them_and_where() -> None:
    projects = [tomllib.loads(read(file))["project"] for file in PROJECTS]
    for project in projects:
        assert project["authors"] == projects[0]["authors"]
        assert project["urls"] == projects[0]["urls"]


def test_continuous_integration_runs_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    called = re.findall(r"\bmake ([a-z-]+)", read(ROOT / ".github/workflows/ci.yml"))
    assert {"test", "demo", "docs"} <= set(called) <= targets
