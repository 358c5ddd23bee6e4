"""The score for unknown pictures as ONNX nodes gives what the runtime's NumPy gives."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from fic_export.graphs.ood_nodes import OOD_SCORE, score_graph
from fic_runtime.heads.ood_scores import (
    METHODS,
    Energy,
    Mahalanobis,
    MaximumProbability,
    NearestNeighbour,
    NormalisedMahalanobis,
    normalised,
    pooled,
)

FEATURES, LABELS, KEPT = 24, 5, 7


def scores():
    random = np.random.default_rng(0)

    def drawn(*shape):
        return random.normal(size=shape).astype(np.float32)

    directions, _ = np.linalg.qr(drawn(FEATURES, KEPT))
    distances = {
        "centre": drawn(FEATURES),
        "means": drawn(LABELS, FEATURES),
        "directions": directions.astype(np.float32),
        "weights": -np.abs(drawn(KEPT)) * np.float32(0.3),
        "rest": np.float32(0.7),
        "scale": np.float32(1.5),
    }
    return [
        MaximumProbability(),
        Energy(weights=drawn(FEATURES, LABELS), bias=drawn(LABELS), scale=np.float32(0.5)),
        Mahalanobis(**distances),
        NormalisedMahalanobis(**distances),
        NearestNeighbour(neighbours=normalised(drawn(40, FEATURES))),
    ]


def run_in_onnx_runtime(model, values):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run([OOD_SCORE], values)[0]


def run_in_the_reference(model, values):
    return ReferenceEvaluator(model).run([OOD_SCORE], values)[0]


def test_every_method_is_tried():
    assert {score.name for score in scores()} == set(METHODS)


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("run", [run_in_onnx_runtime, run_in_the_reference])
@pytest.mark.parametrize("shape", [(FEATURES,), (3, 2, FEATURES)], ids=["vector", "map"])
@pytest.mark.parametrize("score", scores(), ids=lambda score: score.name)
def test_the_nodes_give_the_score_of_the_runtime(score, shape, run, opset):
    random = np.random.default_rng(1)
    bottlenecks = random.normal(size=(6, *shape)).astype(np.float32)
    probabilities = random.dirichlet(np.ones(LABELS), 6).astype(np.float32)
    model = score_graph(score, bottleneck=shape, labels=LABELS, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    found = run(model, {"bottleneck": bottlenecks, "probabilities": probabilities})
    expected = score.score(pooled(bottlenecks), probabilities)
    assert found.shape == (6, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-25, 1e25], ids=["zero", "tiny", "huge"])
@pytest.mark.parametrize("score", [scores()[3], scores()[4]], ids=lambda score: score.name)
def test_bottlenecks_whose_squares_are_no_float32_have_a_length(score, size):
    bottlenecks = np.full((1, FEATURES), size, np.float32)
    probabilities = np.full((1, LABELS), 1 / LABELS, np.float32)
    model = score_graph(score, bottleneck=(FEATURES,), labels=LABELS, opset=17)
    values = {"bottleneck": bottlenecks, "probabilities": probabilities}
    expected = score.score(bottlenecks, probabilities)
    np.testing.assert_allclose(run_in_onnx_runtime(model, values)[:, 0], expected, rtol=1e-4)
