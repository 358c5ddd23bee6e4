"""Any command line ends with an answer or one sentence, and leaves what it was given alone."""

import hashlib
import shutil
from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="is not among the tests of the runtime alone")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# Without those that go on until they are told to end, and those that measure for seconds.
COMMANDS = ["predict", "extract", "explain", "teach", "forget", "html", "selftest", "info"]
PLACES = ["photos", "photos/1.png", "bundle", "empty", "file.txt", "none", "out", "out/new.csv"]
VALUES = [
    *PLACES,
    *("", "-1", "0", "1", "2", "1e9", "nan", "é", "\udce9", "a=b", "=", "--", "*", "[", "~"),
    *(
        "x" * 300,
        "bundle.zip",
        "out.npz",
        "photos/out.npz",
        "out/seen.png",
        "con\nrol",
        "cpu",
        "cuda",
    ),
]
FLAGS = [
    *("--out", "--top-k", "--json", "--csv", "--head", "--device", "--threads", "--label"),
    *("--allow-fallback", "--web", "--title", "--help", "--no-such", "--ou"),
]


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): ""
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(COMMANDS))
    # Mostly what means something, so that some lines get far.
    words = draw(st.lists(st.sampled_from(PLACES) | st.sampled_from(VALUES), max_size=3))
    options = draw(
        st.lists(
            st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES) | st.text(max_size=5)),
            max_size=3,
        )
    )
    first = draw(st.sampled_from(["bundle", "bundle", "bundle", *VALUES]))
    given_options = [word for option in options for word in option]
    return [command, first, *words, *given_options]


def test_any_command_line_ends_well(golden, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(golden.with_name("explaining-bundle"), tmp_path / "bundle")
    (tmp_path / "photos").mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(golden / "small.png", tmp_path / "photos" / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("precious")
    mine = ["bundle", "photos", "file.txt"]

    def inputs() -> dict[str, dict[str, str]]:
        return {
            name: fingerprint(tmp_path / name)
            if (tmp_path / name).is_dir()
            else {"": (tmp_path / name).read_text()}
            for name in mine
        }

    before = inputs()

    @SETTINGS
    @given(command_lines())
    def ends_well(words: list[str]) -> None:
        words = [word.replace("\0", "") for word in words]
        if "-" in words:  # waits for standard input
            return
        code, _, errors = run(*words)
        assert code in (0, 1, 2, 3), words
        assert "Traceback" not in errors, words
        if code in (1, 3):
            assert all(line.startswith("fic-runtime: ") for line in errors.splitlines()), words
        assert inputs() == before, words

    ends_well()
