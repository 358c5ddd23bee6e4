"""What README.md, the start page and the guides show is run, word for word.

A code block is preceded by a comment that a reader of the page does not see:

    <!-- run: NAME -->             blocks of one NAME run in order, in one scratch folder
    <!-- run: NAME as FILE -->     a `csv` block is written to FILE there
    <!-- not run: REASON -->       for what needs a network, a camera or another machine

Every `bash`, `python` and `csv` block has one of them. A scratch folder holds `photos/` with three
classes, `photo.jpg` and `examples/`; `fic`, `fic-runtime` and `python` are on the PATH. Weights of
ImageNet that are downloaded are replaced by random ones, because tests have no network; all else is
as the user has it.

The README starts from the pictures alone. A page of docs/ starts where the README's first
classifier ends, with `run`, `bundle` and the cache, so that each trains only what it is about.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs/start.md",
    *sorted((ROOT / "docs/guides").glob("*.md")),
)
FIRST = "first"  # the scene of the README whose end is where other pages start
RUNNABLE = {"bash", "python", "csv"}
OTHER_LANGUAGES = {"text", "json", "toml", "html"}

_BLOCK = re.compile(
    r"(?:<!--\s*(?P<mark>run|not run):\s*(?P<text>.*?)\s*-->[ \t]*\n\s*)?"
    r"^(?P<indent>[ \t]*)```(?P<language>[^\n]*)\n(?P<code>.*?)^[ \t]*```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)

OFFLINE = """
import fic.bases.models as base_models

_build = base_models.build_base


def _build_without_network(base, *, weights="imagenet", **options):
    download = weights == "imagenet" and base.package is None
    return _build(base, weights="none" if download else weights, **options)


base_models.build_base = _build_without_network
"""


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    page: str
    line: int
    scene: str | None
    file: str | None
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks_of(text: str, page: str) -> list[Block]:
    blocks = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        code = "".join(
            line.removeprefix(indent) for line in match["code"].splitlines(keepends=True)
        )
        scene, _, file = (match["text"] or "").partition(" as ")
        runs = match["mark"] == "run"
        blocks.append(
            Block(
                match["language"].strip(),
                code,
                page,
                text.count("\n", 0, match.start("code")),
                scene if runs else None,
                file if runs and file else None,
                None if runs else match["text"],
            )
        )
    return blocks


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the pages are for a POSIX shell")

BLOCKS = [
    block
    for page in PAGES
    for block in blocks_of(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())
]
SCENES = list(dict.fromkeys(block.scene for block in BLOCKS if block.scene))


def make_desk(folder: Path) -> Path:
    """Return a folder as a user has it who starts; the programs lie beside it."""
    random = np.random.default_rng(0)
    desk = folder / "user"
    for label, name in enumerate(("daisy", "roses", "tulips")):
        (desk / "photos" / name).mkdir(parents=True)
        for number in range(8):
            picture = random.integers(0, 90, (60, 80, 3), dtype=np.uint8)
            picture[:, :, label] += 150
            cv2.imwrite(str(desk / "photos" / name / f"{number}.jpg"), picture)
    shutil.copy(desk / "photos/roses/0.jpg", desk / "photo.jpg")
    shutil.copytree(ROOT / "examples", desk / "examples")
    (folder / "bin").mkdir()
    for command, arguments in {
        "python": "",
        "fic": "-m fic",
        "fic-runtime": "-m fic_runtime",
    }.items():
        script = folder / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(OFFLINE)
    return desk


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return make_desk(tmp_path)


@pytest.fixture(scope="module")
def first_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the desk of a user who has followed the README's first classifier."""
    desk = make_desk(tmp_path_factory.mktemp("readme"))
    play(FIRST, desk)
    return desk


def play(scene: str, desk: Path) -> None:
    for block in BLOCKS:
        if block.scene == scene:
            run(block, desk)


def run(block: Block, desk: Path) -> None:
    if block.file is not None:
        (desk / block.file).write_text(block.code, encoding="utf-8")
        return
    path = [str(desk.parent / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "HOME": str(desk.parent),
        "PATH": os.pathsep.join([str(desk.parent / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path),
    }
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    result = subprocess.run(
        [*command[block.language], block.code],
        cwd=desk,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, (
        f"{block.place}: exit code {result.returncode}\n"
        f"{block.code}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    )


def test_the_first_classifier_of_the_readme_runs(first_classifier: Path) -> None:
    assert (first_classifier / "run/report.html").is_file()
    assert (first_classifier / "bundle/base.onnx").is_file()


@pytest.mark.parametrize(
    "scene",
    [
        # Start is what everybody reads; a guide trains or exports, and there are a dozen of them.
        pytest.param(scene, marks=() if scene == "start" else pytest.mark.slow)
        for scene in SCENES
        if scene != FIRST
    ],
)
def test_the_blocks_run_one_after_the_other(scene: str, first_classifier: Path, desk: Path) -> None:
    for name in ("run", "bundle", "bottlenecks"):
        shutil.copytree(first_classifier / name, desk / name)
    # The copied run names the cache that it was trained with: that of the first classifier.
    play(scene, desk)


def test_every_page_shows_something_that_runs() -> None:
    assert FIRST in SCENES
    shown = {block.page for block in BLOCKS if block.scene}
    without = {page.relative_to(ROOT).as_posix() for page in PAGES} - shown
    assert without == {
        "docs/guides/browser.md",  # needs a package of npm
        "docs/guides/quantization.md",  # whether int8 is faster depends on the processor
        "docs/guides/serving.md",  # a server does not end
    }


def test_every_block_runs_or_says_why_not() -> None:
    unmarked = [
        block.place
        for block in BLOCKS
        if block.language in RUNNABLE and not block.scene and not block.reason
    ]
    assert not unmarked, f"mark these blocks: {unmarked}"


def test_tables_are_written_to_a_file_and_nothing_else_is() -> None:
    wrong = [
        block.place
        for block in BLOCKS
        if block.scene and (block.language == "csv") != bool(block.file)
    ]
    assert not wrong, f"say `<!-- run: NAME as FILE -->` of csv blocks, and of no others: {wrong}"


def test_every_block_has_a_known_language() -> None:
    """A block called `sh` or `console` would run nowhere and be missed by nobody."""
    unknown = [
        (block.place, block.language)
        for block in BLOCKS
        if block.language not in RUNNABLE | OTHER_LANGUAGES
    ]
    assert not unknown, f"call them one of {sorted(RUNNABLE | OTHER_LANGUAGES)}: {unknown}"


def test_marks_are_read() -> None:
    text = (
        "<!-- run: a -->\n```bash\nls\n```\n"
        "words\n\n<!-- not run: needs a camera -->\n\n```python\nimport cv2\n```\n"
        "<!-- run: a as b.csv -->\n```csv\nx,y\n```\n"
        "- item\n\n  ```bash\n  cat <<X\n    deep\n  X\n  ```\n"
    )
    marked, excused, table, bare = blocks_of(text, "page.md")
    assert (marked.scene, marked.reason, marked.code, marked.line) == ("a", None, "ls\n", 2)
    assert (excused.scene, excused.reason) == (None, "needs a camera")
    assert (table.scene, table.file, table.code) == ("a", "b.csv", "x,y\n")
    assert (bare.scene, bare.reason, bare.code) == (None, None, "cat <<X\n  deep\nX\n")


@pytest.mark.parametrize(
    ("language", "code"),
    [("bash", "true | false | true"), ("bash", "false; true"), ("python", "raise SystemExit(3)")],
)
def test_a_block_that_fails_is_noticed(desk: Path, language: str, code: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md, line 7: exit code"):
        run(Block(language, code, "page.md", 7, "x", None, None), desk)


def test_the_commands_of_the_pages_are_those_of_this_checkout(desk: Path) -> None:
    code = "fic --help && fic-runtime --help && ls photos/roses/0.jpg"
    run(Block("bash", code, "page.md", 1, "x", None, None), desk)
