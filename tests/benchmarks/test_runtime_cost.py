"""`benchmarks/runtime_cost.py` compares fic with a script that gives the same to the bit."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from fic_runtime import Classifier
from fic_runtime.bundle import open_bundle

ROOT = Path(__file__).parents[2]
CROPS = ROOT / "tests/data/bundle-v1"
STRETCHES = ROOT / "tests/data/explaining-bundle"


@pytest.fixture
def runtime_cost(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import runtime_cost

    return runtime_cost


@pytest.mark.parametrize(("bundle", "resize"), [(CROPS, "crop"), (STRETCHES, "stretch")])
def test_both_scripts_by_hand_answer_as_fic_does(runtime_cost, bundle, resize, tmp_path):
    assert open_bundle(bundle).manifest.preprocessing.geometry.resize == resize
    picture = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
    with Classifier(bundle, device="cpu", threads=1) as classifier:
        answer = classifier.predict(picture)
    assert runtime_cost._by_hand(bundle, 1)(picture).tobytes() == answer.probabilities.tobytes()

    file = tmp_path / "picture.png"
    cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    script = runtime_cost._BY_HAND.format(bundle, file, 1)
    # The probabilities, too: the same label alone says little.
    script += "\nprint(*probabilities[0])"
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", script], capture_output=True, encoding="utf-8"
    )
    label, *probabilities = done.stdout.splitlines()
    assert (label, done.stderr) == (answer.label, "")
    assert [float(one) for one in probabilities[0].split()] == pytest.approx(
        answer.probabilities, abs=1e-7
    )
