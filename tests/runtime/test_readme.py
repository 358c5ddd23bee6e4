"""What the runtime's README shows is run, with the golden bundle as the reader's own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic_runtime import Classifier
from fic_runtime.bundle import open_bundle

ROOT = Path(__file__).parents[2]
README = (ROOT / "runtime/README.md").read_text("utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^fic-runtime ([^#\n]+?) *(?:#.*)?$", README, re.MULTILINE)


@pytest.fixture
def desk(golden, make_head, tmp_path):
    """Return a folder as a reader has it: a bundle, heads, a photo, photos, and a video."""
    labels = open_bundle(golden).manifest.labels
    for place in ("head", "heads/ripeness", "heads/pests.zip"):
        make_head(tmp_path / place, labels=labels)
    shutil.copytree(golden, tmp_path / "bundle")
    shutil.copytree(golden, tmp_path / "photos", ignore=shutil.ignore_patterns("*.npz", "*.onnx"))
    picture = cv2.imread(str(golden / "large.png"))
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture)
    size = (picture.shape[1], picture.shape[0])
    writer = cv2.VideoWriter(
        str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size
    )
    writer.write(picture)
    writer.release()
    return tmp_path


def bring_what_it_needs(text, desk, golden):
    if "explain" in text:
        shutil.rmtree(desk / "bundle")
        shutil.copytree(golden.parent / "explaining-bundle", desk / "bundle")


def test_there_is_something_to_run():
    assert (len(PYTHON), len(COMMANDS)) == (5, 11)


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs_and_names_the_label(code, desk, golden):
    bring_what_it_needs(code, desk, golden)
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        cwd=desk,
        capture_output=True,
        encoding="utf-8",
    )
    assert (result.returncode, result.stderr) == (0, "")
    label = "red" if "explain" in code else "Sonnenblume, groß"
    assert re.match(rf"(ripeness )?{label}( 0\.|\n)", result.stdout)


@pytest.mark.parametrize("page", ["runtime/README.md", "docs/guides/devices.md"])
@pytest.mark.parametrize("width", [40, 9])
@pytest.mark.parametrize("bundle", ["bundle-v1", "explaining-bundle"])
def test_the_script_without_fic_runtime_answers_as_fic_does(page, width, bundle, desk, golden):
    shutil.rmtree(desk / "bundle")
    shutil.copytree(golden.parent / bundle, desk / "bundle")
    text = (ROOT / page).read_text("utf-8").partition("## Without fic-runtime\n")[2]
    code = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    resize = open_bundle(desk / "bundle").manifest.preprocessing.geometry.resize
    assert resize == {"bundle-v1": "crop", "explaining-bundle": "stretch"}[bundle]
    # A PNG behind that name: nothing is lost.
    pixels = np.random.default_rng(0).integers(0, 256, (30, width, 3), np.uint8)
    (desk / "photo.jpg").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    result = subprocess.run([sys.executable, "-c", code], cwd=desk, capture_output=True, text=True)
    with Classifier(desk / "bundle", device="cpu") as classifier:
        answer = classifier.predict(desk / "photo.jpg")
    label, probability = result.stdout.rsplit(maxsplit=1)
    assert label == answer.label
    assert float(probability) == pytest.approx(answer.probability, abs=1e-6)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, desk, golden):
    bring_what_it_needs(command, desk, golden)
    shortly = ["--seconds", "0.1"] if command.startswith("bench") else []
    result = subprocess.run(
        [sys.executable, "-m", "fic_runtime", *command.split(), *shortly],
        cwd=desk,
        capture_output=True,
    )
    assert result.returncode == 0
    assert result.stdout
    if command.startswith("watch"):
        assert result.stderr.startswith(b"1 frames classified, 0 skipped")
    else:
        # The folder of the pictures holds other files as well.
        assert re.fullmatch(rb"(Used \d+ of \d+ files[^\n]*\n)?", result.stderr)
