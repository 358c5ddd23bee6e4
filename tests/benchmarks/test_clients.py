"""Two of the engines of `benchmarks/clients.py` are at hand: OpenCV's, and ONNX's own evaluator."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fic_export
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing
from tests.export.conftest import known_score, make_base, make_head

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import clients

    return clients


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clients") / "bundle"
    fic_export.export_bundle(
        make_base((24, 32, 3)),
        make_head(),
        labels=["daisy", "rose", "tulip"],
        # Pictures that have the input's size already are not cropped once more.
        preprocessing=Preprocessing(
            geometry=Geometry(height=24, width=32, resize="crop"), pixels=Pixels(scale=(0.01,) * 3)
        ),
        out=out,
        single_graph=True,
        ood_score=known_score(),
        origin={"base": "two_convolutions"},
    )
    return out


@pytest.mark.parametrize("engine", ["opencv", "reference"])
def test_other_engines_give_the_answers_of_the_runtime(engine, bundle, clients):
    program = [sys.executable, str(BENCHMARKS / "client_engines.py"), engine]
    pixels = clients.pixels_of(bundle, [])
    found = clients.run(program, bundle, pixels)
    expected = clients.answers_of(bundle, pixels)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found["ood_score"], expected.scores, atol=1e-5)
    assert expected.agreeing(found) == len(pixels)


def test_an_engine_that_cannot_is_told_by_its_last_line(bundle, clients, tmp_path):
    program = [sys.executable, "-c", "raise SystemExit('no such | operator')"]
    with pytest.raises(clients.Refused, match="no such / operator"):
        clients.run(program, bundle, clients.pixels_of(bundle, []))
