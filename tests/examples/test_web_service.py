import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fic_runtime import Classifier
from tests.examples.conftest import BUNDLE, ROOT

PROGRAM = ROOT / "examples/web_service.py"
PICTURE = (BUNDLE / "large.png").read_bytes()


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the service and return its process and its port."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, BUNDLE, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = urlsplit(process.stdout.readline()).port
    assert port is not None
    yield process, port
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    values = json.loads(answer.read())
    connection.close()
    return answer.status, values


def test_a_picture_gets_the_answer_of_the_bundle(service: tuple[Any, int]) -> None:
    status, values = ask(service[1], "POST", "/predict?top=2", PICTURE)
    with Classifier(BUNDLE, threads=1) as classifier:
        best = classifier.predict(PICTURE).top(2)
    assert status == 200
    assert values["label"] == best[0].label
    assert [(each["label"], each["probability"]) for each in values["top"]] == [
        (each.label, pytest.approx(each.probability, abs=1e-6)) for each in best
    ]


def test_its_health_says_what_is_served(service: tuple[Any, int]) -> None:
    status, values = ask(service[1], "GET", "/health")
    assert status == 200
    assert values["labels"][0] == "daisy"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "says"),
    [
        ("POST", "/predict", b"no picture", {}, 400, "not a picture"),
        ("POST", "/predict", b"", {}, 400, "empty"),
        ("POST", "/predict?top=none", PICTURE, {}, 400, "top is a whole number"),
        ("POST", "/predict", PICTURE[:900], {}, 400, "image"),
        ("POST", "/predict", b"x", {"Content-Length": str(2**40)}, 413, "at most"),
        ("POST", "/predict", b"x", {"Content-Length": "-1"}, 411, "Content-Length"),
        ("POST", "/elsewhere", PICTURE, {}, 404, "/predict"),
        ("GET", "/", None, {}, 404, "/predict"),
    ],
)
def test_a_request_that_cannot_be_answered_is_said_in_json(
    service: tuple[Any, int],
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    found, values = ask(service[1], method, path, body, **headers)
    assert found == status
    assert says in values["error"]


def test_many_are_answered_at_once(service: tuple[Any, int]) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(service[1], "POST", "/predict", PICTURE), range(48)))
    assert {status for status, _ in answers} == {200}
    assert len({values["label"] for _, values in answers}) == 1


def test_a_bundle_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "no manifest.json there" in result.stderr
    assert result.stderr.count("\n") == 1
