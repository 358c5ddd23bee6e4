"""Probabilities that say how often they are right, by one temperature."""

import numpy as np
import pytest

from fic_export.fits.temperature import (
    Calibration,
    ends_in_softmax,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    with_temperature,
)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def answers(count, *, sharpness, seed=0):
    """Return probabilities that are `sharpness` times too sure, with the true labels."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((count, 4))
    targets = np.array([random.choice(4, p=row) for row in softmax(logits)])
    return softmax(sharpness * logits).astype(np.float32), targets


def test_the_error_is_the_mean_gap_between_sure_and_right():
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6], np.float32)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    targets = np.array([0, 0, 0, 1, 1, 1])
    # 4 of 0.9, three right: 0.15; 2 of 0.6, none right: 0.6.
    expected = (4 * 0.15 + 2 * 0.6) / 6
    assert expected_calibration_error(probabilities, targets) == pytest.approx(expected)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_is_how_much_too_sure_the_answers_are(sharpness):
    probabilities, targets = answers(4000, sharpness=sharpness)
    assert fit_temperature(np.log(probabilities), targets) == pytest.approx(sharpness, rel=0.1)


@pytest.mark.parametrize("right", [True, False])
def test_a_few_pictures_of_one_mind_do_not_send_the_temperature_away(right):
    logits = np.log(np.tile([[0.9, 0.1]], (6, 1)))
    targets = np.full(6, 0 if right else 1)
    assert 1 / 5 < fit_temperature(logits, targets) < 8


def test_answers_that_are_too_sure_become_better_on_pictures_not_fitted_on():
    found = fit_calibration(*answers(300, sharpness=3.0))
    assert found.temperature == found.fitted == pytest.approx(3.0, rel=0.3)
    assert found.ece_after < 0.6 * found.ece_before
    assert found.loss_after < found.loss_before
    assert found.pictures == 300


def test_answers_that_are_right_as_often_as_they_say_stay_as_they_are():
    found = fit_calibration(*answers(300, sharpness=1.0))
    assert found.temperature == 1.0
    assert found.fitted != 1.0
    assert found.reason == "no better on held-out validation pictures"


def test_few_pictures_are_no_measure():
    found = fit_calibration(*answers(49, sharpness=3.0))
    assert (found.temperature, found.fitted) == (1.0, None)
    assert "fewer than 50" in found.reason


def test_the_order_of_the_labels_stays_and_zeros_are_no_trouble():
    probabilities = np.array([[1, 0, 0], [0.5, 0.3, 0.2]], np.float32)
    found = with_temperature(probabilities, 2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert found.argmax(axis=1).tolist() == [0, 0]
    roots = np.sqrt(probabilities[1])
    np.testing.assert_allclose(found[1], roots / roots.sum(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_temperature_is_positive(value):
    with pytest.raises(ValueError, match="positive and finite"):
        Calibration(temperature=value)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_only_a_head_that_ends_in_a_softmax_is_said_to(activation):
    import keras

    dense = keras.layers.Dense(3, activation=activation)
    inner = keras.Sequential([keras.Input((6,)), dense])
    for head in (inner, keras.Sequential([keras.Input((6,)), inner])):
        assert ends_in_softmax(head) == (activation == "softmax")
