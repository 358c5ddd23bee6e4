"""The recipes for clusters keep to the schemas that there are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).parents[2] / "examples/cluster"
KUBERAY = yaml.safe_load((FOLDER / "raycluster.yaml").read_text("utf-8"))
RAY_UP = yaml.safe_load((FOLDER / "ray-up.yaml").read_text("utf-8"))


def test_the_machines_of_ray_up_keep_to_the_schema_of_ray() -> None:
    ray = pytest.importorskip("ray")
    jsonschema = pytest.importorskip("jsonschema")
    file = Path(ray.__file__).parent / "autoscaler/ray-schema.json"
    schema = json.loads(file.read_text("utf-8"))
    jsonschema.validate(RAY_UP, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**RAY_UP, "max_wokers": 8}, schema)


def groups() -> list[dict[str, Any]]:
    return [KUBERAY["spec"]["headGroupSpec"], *KUBERAY["spec"]["workerGroupSpecs"]]


@pytest.mark.parametrize("number", range(2))
def test_the_pods_of_kuberay_keep_to_the_schema_of_kubernetes(number: int) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ray"},
        **groups()[number]["template"],
    }
    kubernetes_validate.validate(pod, "1.34", strict=True)


def closed(schema: Any) -> Any:
    """Return a schema of Kubernetes that refuses what it does not know, as its server does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if "properties" in found and "x-kubernetes-preserve-unknown-fields" not in found:
        found.setdefault("additionalProperties", False)
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="no package has KubeRay's definition")
def test_the_cluster_of_kuberay_keeps_to_its_definition() -> None:
    """`KUBERAY_CRD` is ray-operator/config/crd/bases/ray.io_rayclusters.yaml of its repository."""
    jsonschema = pytest.importorskip("jsonschema")
    definition = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text("utf-8"))
    (version,) = [
        each
        for each in definition["spec"]["versions"]
        if KUBERAY["apiVersion"] == f"{definition['spec']['group']}/{each['name']}"
    ]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(KUBERAY, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**KUBERAY, "spec": {**KUBERAY["spec"], "workerGroups": []}}, schema)


def test_heads_have_no_processor_for_pictures() -> None:
    assert groups()[0]["rayStartParams"]["num-cpus"] == "0"
    assert RAY_UP["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert all(isinstance(value, str) for value in groups()[0]["rayStartParams"].values())
