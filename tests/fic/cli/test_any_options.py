"""Any command line ends with a result or one sentence, and leaves what it was given alone."""

import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fic.options import CacheOptions
from fic.runs import Run
from tests.fic.cli.conftest import Fic

# What makes a training quick; whatever else is on the line comes after it and counts.
QUICK = [
    *("--base-model", "mobilenet_0.25", "--weights", "none", "--image-size", "32"),
    *("--epochs", "1", "--bottleneck-dir", "cache"),
]
FIRST = {
    "train": [*QUICK, "--data", "photos"],
    "extract": [*QUICK[:6], "--bottleneck-dir", "cache", "--data", "photos"],
    "evaluate": ["run", "--data", "photos"],
    "predict": ["run"],
    "export": ["run"],
    "split": ["photos"],
    "bases": [],
    "verify": ["run"],
    "cache info": [],
    "cache verify": [],
    "cache compact": [],
    "cache prune": [],
    "data fetch": [],
    "audit": [*QUICK[:6], "--bottleneck-dir", "cache", "--data", "photos"],
    "report": ["run", "--out", "new.html"],
    "tune": [*QUICK[:6], "--bottleneck-dir", "cache", "--data", "photos", "--folds", "2"],
    "compare": ["--bottleneck-dir", "cache", "--data", "photos", "--base-models", "no,none"],
    "": [],
}
PLACES = ["photos", "photos/red", "run", "run/run.json", "empty", "file.txt", "none", "out"]
VALUES = [
    *PLACES,
    *("", "-1", "0", "1", "2", "0.5", "1e9", "nan", "inf", "é", "\udce9", "a=b", "*", "[", "~"),
    *("x" * 300, "photos/out", "out/new.h5", "new.keras", "l.json", "list.csv", "a\nb", "imagenet"),
]
FLAGS = [
    *("--out", "--data", "--train", "--val", "--val-split", "--weights", "--image-size"),
    *("--bottleneck-dir", "--resize", "--views", "--on-error", "--head", "--load-weights"),
    *("--seed", "--lr", "--optimizer", "--batch-size-train", "--monitor", "--patience"),
    *("--weight-file", "--label-file", "--logs", "--config", "--top-k", "--json", "--csv"),
    *("--img-dir", "--bottleneck_dir", "--help", "--no-such", "--pictures", "--foreign"),
    *("--shard", "--copy", "--move", "--dataset", "--keep-data", "--public-key"),
    *("--unused-days", "--damaged", "--extend-classes", "--base", "--folds", "--apply"),
]


def fingerprint(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(sorted(FIRST)))
    # Mostly what means something, so that some lines get far.
    options = draw(
        st.lists(
            st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES) | st.text(max_size=5)),
            max_size=4,
        )
    )
    words = draw(st.lists(st.sampled_from(PLACES), max_size=1))
    return [*command.split(), *FIRST[command], *words, *(word for each in options for word in each)]


@pytest.fixture
def inputs(photos: Path, run: Run, warm: CacheOptions, tmp_path: Path) -> list[Path]:
    """Return what no command may change; only `out`, `cache` and new names are for results."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("precious")
    shutil.copy(tmp_path / "file.txt", tmp_path / "l.json")
    return [photos, run.folder, tmp_path / "file.txt", tmp_path / "l.json"]


def check(fic: Fic, inputs: list[Path], examples: int) -> None:
    before = [fingerprint(path) for path in inputs]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def ends_well(words: list[str]) -> None:
        words = [word.replace("\0", "") for word in words]
        trains = words[:1] in (["train"], ["tune"])
        if trains and "--out" not in words:
            words += ["--out", "out"]  # and not `run`, whose place it may take
        if words[:2] == ["data", "fetch"] or "--move" in words:
            return  # one asks the network, the other is told to change the pictures
        if trains and "run" in words[words.index("--out") :]:
            return
        done = fic(*words)
        assert done.code in (0, 1, 2, 3), words
        assert "Traceback" not in done.err, words
        assert [fingerprint(path) for path in inputs] == before, words

    ends_well()


def test_any_command_line_ends_well(fic: Fic, inputs: list[Path]) -> None:
    check(fic, inputs, 25)


@pytest.mark.slow
def test_any_of_many_command_lines_ends_well(fic: Fic, inputs: list[Path]) -> None:
    check(fic, inputs, 300)
