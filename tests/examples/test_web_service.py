import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fic_runtime import Classifier
from tests.examples.conftest import BUNDLE, ROOT

pytest.importorskip("starlette")
from starlette.testclient import TestClient

PROGRAM = ROOT / "examples/web_service.py"
PICTURE = (BUNDLE / "large.png").read_bytes()


def test_the_classifier_answers_beside_the_pages_of_the_application() -> None:
    application = runpy.run_path(str(PROGRAM))["application"]
    with Classifier(BUNDLE, threads=1) as classifier:
        alone = classifier.predict(PICTURE)
    with TestClient(application(str(BUNDLE))) as client:
        assert "/classifier/predict" in client.get("/").text
        while not client.get("/classifier/v2/health/ready").json()["ready"]:
            pass
        answer = client.post("/classifier/predict", content=PICTURE).json()
        document = client.get("/classifier/openapi.json").json()
    assert answer["predictions"][0]["probability"] == alone.probability
    assert document["servers"] == [{"url": "/classifier"}]


def test_a_bundle_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "no manifest.json there" in result.stderr
    assert result.stderr.count("\n") == 1
