from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

FILE = Path(__file__).parents[2] / "examples/kubernetes/classifier.yaml"
BUNDLE = Path(__file__).parents[1] / "data/bundle-v1"
RESOURCES = {each["kind"]: each for each in yaml.safe_load_all(FILE.read_text("utf-8"))}


@pytest.mark.parametrize("kind", RESOURCES)
def test_each_resource_keeps_to_the_schema_of_kubernetes(kind: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.31", "1.34"):
        kubernetes_validate.validate(RESOURCES[kind], version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = {**RESOURCES["Service"], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def values_of(key: str, values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from [value] if name == key else values_of(key, value)
    elif isinstance(values, list):
        for value in values:
            yield from values_of(key, value)


def test_probes_and_metrics_are_those_of_the_server() -> None:
    pytest.importorskip("starlette")
    from starlette.testclient import TestClient

    from fic_runtime.server import create_app

    (pod,) = RESOURCES["Deployment"]["spec"]["template"]["spec"]["containers"]
    with TestClient(create_app(BUNDLE)) as client:
        for probe in values_of("httpGet", pod):
            assert client.get(probe["path"]).status_code in (200, 503)
            assert probe["port"] == pod["ports"][0]["name"]
        (metric,) = values_of("metric", RESOURCES["HorizontalPodAutoscaler"])
        assert f"\n{metric['name']} " in client.get("/metrics").text


def test_the_command_of_the_container_is_one_of_the_runtime() -> None:
    from fic_runtime.cli import _parser

    (pod,) = RESOURCES["Deployment"]["spec"]["template"]["spec"]["containers"]
    options = _parser().parse_args(pod["args"])
    assert (options.host, options.port) == ("0.0.0.0", pod["ports"][0]["containerPort"])
