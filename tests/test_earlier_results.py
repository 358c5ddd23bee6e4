"""What fic wrote before its packages had wings is read as it was then: a run, a cache, a bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fic import CacheOptions, Run, Source, train
from fic.options import TrainingOptions
from fic.prediction import evaluate_run
from fic_runtime import Classifier

EARLIER = Path(__file__).parent / "data/before-wings"
EXPECTED = json.loads((EARLIER / "expected.json").read_text("utf-8"))
# Processors differ in the last digits, and eight epochs of training add them up.
TOLERANCE = 1e-3


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with all of it, which is the working folder: its paths are relative."""
    folder = tmp_path / "earlier"
    shutil.copytree(EARLIER, folder)
    monkeypatch.chdir(folder)
    return folder


def again(out: str) -> Run:
    run = Run(Path("run"))
    return train(
        Source(data=Path("photos")),
        out=Path(out),
        base=run.base_options,
        cache=CacheOptions(views=2),
        options=TrainingOptions(epochs=8, weight_decay=0.03),  # the default of then
    )


@pytest.mark.usefixtures("earlier")
def test_an_earlier_cache_has_the_bottlenecks_of_all_views() -> None:
    assert again("again").record["cache"] == {"hits": 41, "extracted": 0, "skipped": 0}


@pytest.mark.usefixtures("earlier")
def test_the_same_seed_trains_the_same_head_as_before() -> None:
    before, after = Run(Path("run")).head(), again("again").head()
    for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, atol=TOLERANCE)


@pytest.mark.usefixtures("earlier")
def test_an_earlier_run_measures_what_it_measured() -> None:
    run = Run(Path("run"))
    measured = evaluate_run(run.folder, Path("photos"))
    assert measured["images"] == len(EXPECTED)
    assert [answer.label for answer in run.validation()] == ["blue"] * 2 + ["green"] * 4 + ["red"]


@pytest.mark.usefixtures("earlier")
def test_an_earlier_bundle_answers_as_it_did() -> None:
    with Classifier("bundle.zip") as classifier:
        for path, probabilities in EXPECTED.items():
            np.testing.assert_allclose(
                classifier.predict(path).probabilities, probabilities, atol=TOLERANCE
            )
