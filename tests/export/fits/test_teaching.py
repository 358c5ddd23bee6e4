"""What a device learns from: statistics that make its answers as sure as they should be."""

from dataclasses import replace

import numpy as np
import pytest

from fic_export.fits.softmax import cross_entropies
from fic_export.fits.teaching import fit_teaching
from fic_runtime.heads.statistics import ClassStatistics

CLASSES, FEATURES = 4, 200


def pictures(each, *, seed=0):
    """Return features of `each` pictures of every class, and the classes' indices."""
    centres = np.random.default_rng(1).normal(0, 0.25, (CLASSES, FEATURES))
    # As of real bases, some directions vary much more than others.
    spread = np.geomspace(3, 0.3, FEATURES)
    targets = np.repeat(np.arange(CLASSES), each)
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), FEATURES)) * spread
    return (centres[targets] + noise).astype(np.float32), targets


def loss(teaching: ClassStatistics, features, targets):
    weights = teaching.head()
    return cross_entropies(features @ weights.kernel + weights.bias, targets).mean()


@pytest.mark.parametrize("each", [40, 150])
def test_the_caution_suits_pictures_that_were_not_in_the_training(each):
    teaching = fit_teaching(*pictures(each), CLASSES)
    fresh = pictures(500, seed=2)
    found = loss(teaching, *fresh)
    others = [
        loss(replace(teaching, extra_variance=np.float32(extra_variance)), *fresh)
        for extra_variance in (0, 2, 8, 100)
    ]
    assert found < 1.1 * min(others)
    assert found < 0.8 * max(others)


def test_few_pictures_of_each_class_leave_the_usual_extra_variance():
    teaching = fit_teaching(*pictures(2), CLASSES)
    assert teaching.extra_variance == np.float32(6)
    assert np.isfinite(teaching.head().kernel).all()


@pytest.mark.parametrize("scale", [1, 1e-12, 1e6])
@pytest.mark.parametrize(
    ("classes", "each", "kinds", "features"),
    [
        (2, 1, 1, 200),  # one picture of each class
        (40, 1, 1, 200),
        (300, 1, 1, 64),
        (2, 12, 1, 200),  # copies of one picture
        (5, 3, 2, 200),  # of a few
        (3, 4, 4, 1),
        (3, 1, 1, 2),
        (2, 2, 2, 1280),
    ],
)
def test_statistics_of_hardly_any_pictures_tell_them_apart(classes, each, kinds, features, scale):
    random = np.random.default_rng(3)
    centres = random.normal(0, 5, (classes, 1, features))
    some = centres + random.normal(0, 0.1, (classes, kinds, features))
    rows = (some[:, np.arange(each) % kinds].reshape(-1, features) * scale).astype(np.float32)
    targets = np.repeat(np.arange(classes), each)
    with np.errstate(all="raise", under="ignore"):
        teaching = fit_teaching(rows, targets, classes)
        weights = teaching.head()
    for array in teaching.arrays().values():
        assert np.isfinite(array).all()
    answers = rows @ weights.kernel + weights.bias
    assert (answers.argmax(axis=1) == targets).mean() > (0.5 if features < 3 else 0.95)
    taught = teaching.updated(classes, rows[:1] + np.float32(scale))
    assert np.isfinite(taught.head().kernel).all()


def test_classes_of_one_and_the_same_picture_have_a_head():
    teaching = fit_teaching(np.ones((6, 30), np.float32), np.arange(6) % 2, 2)
    assert np.isfinite(teaching.head().kernel).all()


def test_a_class_without_pictures_is_a_slip():
    features, targets = pictures(5)
    with pytest.raises(ValueError, match="class 3 has no picture"):
        fit_teaching(features[targets < 3], targets[targets < 3], CLASSES)


def test_a_class_of_few_pictures_is_told_with_less_confidence():
    """The same mean, whether of few pictures or of many; what differs is how far it is trusted."""
    teaching = fit_teaching(*pictures(100), CLASSES)
    mean = teaching.means[0] + 0.2
    sure = []
    for count in (1, 5, 100, 10_000):
        taught = teaching.updated(CLASSES, np.tile(mean, (count, 1)))
        weights = taught.head()
        sure.append(np.exp(-cross_entropies((mean @ weights.kernel + weights.bias)[None], [4])[0]))
    assert sure == sorted(sure)
    assert sure[0] < 0.9 * sure[-1]


def test_means_of_many_pictures_stay_where_they_are():
    teaching = fit_teaching(*pictures(100), CLASSES)
    known = replace(teaching, counts=np.full(CLASSES, 10**9))
    unit = float(np.sqrt(teaching.variance))
    np.testing.assert_allclose(
        known._likely_means(known.means / unit), known.means / unit, atol=1e-6
    )
