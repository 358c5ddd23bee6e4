import numpy as np
import pytest

from fic.insight.logistic import fit_logistic


def problem(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    targets = random.integers(classes, size=120)
    rows = random.standard_normal((120, 8)) + 2 * np.eye(classes, 8)[targets]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), targets


@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_the_answer_is_that_of_another_solver(decay: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows, targets = problem()
    ours = fit_logistic(rows, targets, 3, decay=decay, tolerance=1e-6).probabilities(rows)
    # Its C weighs the sum of the losses against half the squared weights.
    other = linear_model.LogisticRegression(C=1 / (decay * len(rows)), tol=1e-8, max_iter=1000)
    np.testing.assert_allclose(ours, other.fit(rows, targets).predict_proba(rows), atol=1e-3)


def test_the_start_does_not_change_the_answer() -> None:
    rows, targets = problem()
    cold = fit_logistic(rows, targets, 3, decay=1e-2, tolerance=1e-6)
    start = fit_logistic(rows[:40], targets[:40], 3, decay=1e-2)
    warm = fit_logistic(rows, targets, 3, decay=1e-2, start=start, tolerance=1e-6)
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-3)


def test_a_class_without_rows_is_improbable() -> None:
    rows, targets = problem(2)
    probabilities = fit_logistic(rows, targets, 3, decay=1e-2).probabilities(rows)
    assert probabilities[:, 2].max() < 0.05
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
