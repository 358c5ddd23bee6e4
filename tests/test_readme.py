"""What README.md shows is run, word for word.

A code block is preceded by a comment that a reader of the page does not see:

    <!-- run: NAME -->          blocks of one NAME run in order, in one scratch folder
    <!-- not run: REASON -->    for what needs a network, a camera or another machine

Every `bash` and `python` block has one of the two. A scratch folder holds `photos/` with three
classes, `photo.jpg` and `examples/`; `fic`, `fic-runtime` and `python` are on the PATH. Weights of
ImageNet that are downloaded are replaced by random ones, because tests have no network; all else is
as the user has it.
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
RUNNABLE = {"bash", "python"}
OTHER_LANGUAGES = {"text", "json", "toml", "csv", "html"}

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
    line: int
    scene: str | None
    reason: str | None


def blocks_of(text: str) -> list[Block]:
    blocks = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        code = "".join(
            line.removeprefix(indent) for line in match["code"].splitlines(keepends=True)
        )
        blocks.append(
            Block(
                match["language"].strip(),
                code,
                text.count("\n", 0, match.start("code")),
                match["text"] if match["mark"] == "run" else None,
                match["text"] if match["mark"] == "not run" else None,
            )
        )
    return blocks


README = blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))
SCENES = list(dict.fromkeys(block.scene for block in README if block.scene))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a folder as a user has it who follows the page."""
    random = np.random.default_rng(0)
    folder = tmp_path / "user"
    for label, name in enumerate(("daisy", "roses", "tulips")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(8):
            picture = random.integers(0, 90, (60, 80, 3), dtype=np.uint8)
            picture[:, :, label] += 150
            cv2.imwrite(str(folder / "photos" / name / f"{number}.jpg"), picture)
    shutil.copy(folder / "photos/roses/0.jpg", folder / "photo.jpg")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (tmp_path / "bin").mkdir()
    for command, arguments in {
        "python": "",
        "fic": "-m fic",
        "fic-runtime": "-m fic_runtime",
    }.items():
        script = tmp_path / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(OFFLINE)
    return folder


def run(block: Block, folder: Path) -> None:
    path = [str(folder.parent / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "HOME": str(folder.parent),
        "PATH": os.pathsep.join([str(folder.parent / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path),
    }
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    result = subprocess.run(
        [*command[block.language], block.code],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, (
        f"README.md, line {block.line}: exit code {result.returncode}\n"
        f"{block.code}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    )


@pytest.mark.parametrize("scene", SCENES)
def test_the_blocks_run_one_after_the_other(scene: str, scratch: Path) -> None:
    for block in README:
        if block.scene == scene:
            run(block, scratch)


def test_the_page_shows_commands_that_run() -> None:
    assert SCENES


def test_every_block_runs_or_says_why_not() -> None:
    unmarked = [
        block.line
        for block in README
        if block.language in RUNNABLE and not block.scene and not block.reason
    ]
    assert not unmarked, f"README.md: mark the blocks at lines {unmarked}"


def test_every_block_has_a_known_language() -> None:
    """A block called `sh` or `console` would run nowhere and be missed by nobody."""
    unknown = [
        (block.line, block.language)
        for block in README
        if block.language not in RUNNABLE | OTHER_LANGUAGES
    ]
    assert not unknown, f"README.md: call them one of {sorted(RUNNABLE | OTHER_LANGUAGES)}"


def test_marks_are_read() -> None:
    text = (
        "<!-- run: a -->\n```bash\nls\n```\n"
        "words\n\n<!-- not run: needs a camera -->\n\n```python\nimport cv2\n```\n"
        "- item\n\n  ```bash\n  cat <<X\n    deep\n  X\n  ```\n"
    )
    marked, excused, bare = blocks_of(text)
    assert (marked.scene, marked.reason, marked.code, marked.line) == ("a", None, "ls\n", 2)
    assert (excused.scene, excused.reason) == (None, "needs a camera")
    assert (bare.scene, bare.reason, bare.code) == (None, None, "cat <<X\n  deep\nX\n")


@pytest.mark.parametrize(
    ("language", "code"),
    [("bash", "true | false | true"), ("bash", "false; true"), ("python", "raise SystemExit(3)")],
)
def test_a_block_that_fails_is_noticed(scratch: Path, language: str, code: str) -> None:
    with pytest.raises(AssertionError, match=r"README\.md, line 7: exit code"):
        run(Block(language, code, 7, "x", None), scratch)


def test_the_commands_of_the_page_are_those_of_this_checkout(scratch: Path) -> None:
    run(
        Block("bash", "fic --help && fic-runtime --help && ls photos/roses/0.jpg", 1, "x", None),
        scratch,
    )
