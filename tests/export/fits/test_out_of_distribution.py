"""The score of unknown pictures is chosen by measurement, and written small and the same."""

from dataclasses import replace

import numpy as np
import pytest

from fic_export.fits import out_of_distribution
from fic_export.fits.ood_scores import (
    FITS,
    class_means,
    fit_softmax_regression,
    largest_directions,
)
from fic_export.fits.out_of_distribution import (
    Answers,
    area_under_roc,
    fit_out_of_distribution,
    rejection_threshold,
    why_not,
)
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.graphs.spec import GraphSpec, Tensor
from fic_runtime.heads.ood_scores import METHODS, Mahalanobis
from fic_runtime.heads.out_of_distribution import read_out_of_distribution
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

pytestmark = pytest.mark.ood

CLASSES, FEATURES = 4, 24


def clusters(count, *, seed, spread=0.5, centres_seed=0):
    """Return positive features around the centre of each class, with their classes."""
    centres = 3 * np.random.default_rng(centres_seed).random((CLASSES, FEATURES))
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(CLASSES), count)
    noise = spread * random.standard_normal((len(targets), FEATURES))
    return np.abs(centres[targets] + noise).astype(np.float32), targets


def answers(features, head):
    return Answers(features=features, probabilities=head.probabilities(features))


@pytest.fixture(scope="module")
def parts():
    features, targets = clusters(40, seed=1)
    head = fit_softmax_regression(features, targets)
    val, val_targets = clusters(25, seed=2)
    outliers, _ = clusters(10, seed=3, centres_seed=9)
    return {
        "features": features,
        "targets": targets,
        "validation": answers(val, head),
        "validation_targets": val_targets,
        "outliers": answers(outliers, head),
        "outlier_source": "drawn",
        "false_rejection": 0.05,
    }


def manifest_for(known, files=None):
    vector = Tensor(name="bottleneck", dtype="float32", shape=(None, FEATURES))
    image = Tensor(name="image", dtype="uint8", shape=(None, 8, 8, 3))
    answer = Tensor(name="probabilities", dtype="float32", shape=(None, CLASSES))
    return Manifest(
        labels=tuple("abcd"),
        preprocessing=Preprocessing(geometry=Geometry(height=8, width=8), pixels=Pixels()),
        base=GraphSpec(file="base.onnx", input=image, output=vector),
        head=GraphSpec(file="head.onnx", input=vector, output=answer),
        files={"base.onnx": "", "head.onnx": "", **(files or {})},
        known=known,
    )


def test_the_chosen_score_tells_outliers_and_keeps_inliers(parts):
    fitted = fit_out_of_distribution(**parts)
    known, figures = fitted.known, fitted.known.figures
    assert set(figures["auroc"]) == set(FITS) == set(METHODS)
    best = max(np.mean(list(areas.values())) for areas in figures["auroc"].values())
    assert np.mean(list(figures["auroc"][known.method].values())) >= best - 0.015
    assert figures["foreign_rejected"] > 0.9
    fresh, _ = clusters(200, seed=4)
    head = fit_softmax_regression(parts["features"], parts["targets"])
    scores = fitted.score.score(fresh, head.probabilities(fresh))
    assert (scores > known.threshold).mean() < 0.1


@pytest.mark.parametrize("name", FITS)
def test_each_score_is_the_same_after_it_was_written(name, parts, tmp_path):
    features, targets = parts["features"], parts["targets"]
    score = FITS[name](features, targets, fit_softmax_regression(features, targets))
    fitted = fit_out_of_distribution(**parts)
    file = "known.npz" if score.arrays() else None
    known = replace(fitted.known, method=name, file=file)
    fitted = replace(fitted, score=score, known=known)
    fitted.write(tmp_path)
    manifest = manifest_for(known, {} if file is None else {file: ""})
    read = read_out_of_distribution(bundle_files(tmp_path), Manifest.from_json(manifest.to_json()))
    assert read is not None and read.threshold == known.threshold
    expected = score.score(features, parts["validation"].probabilities[: len(features)])
    found = read.score(features, parts["validation"].probabilities[: len(features)])
    np.testing.assert_array_equal(found, expected.astype(np.float64))


def test_the_same_pictures_give_the_same_bytes(parts, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fitted = fit_out_of_distribution(**parts)
        fitted = replace(fitted, known=replace(fitted.known, file="known.npz"))
        fitted.write(tmp_path / name)
    one, two = ((tmp_path / name / "known.npz").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_distance_is_that_of_the_whole_covariance_where_all_directions_but_one_are_kept():
    random = np.random.default_rng(5)
    directions = np.linalg.qr(random.standard_normal((5, 5)))[0]
    variances = np.array([4.0, 3.0, 2.0, 1.0, 1.0])
    means = random.standard_normal((3, 5))
    score = Mahalanobis(
        centre=np.zeros(5),
        means=means,
        directions=directions[:, :3],
        weights=1 / variances[:3] - 1.0,
        rest=np.asarray(1.0),
        scale=np.asarray(1.0),
    )
    features = random.standard_normal((7, 5))
    inverse = directions @ np.diag(1 / variances) @ directions.T
    offsets = features[:, None] - means
    expected = np.einsum("ncf,fg,ncg->nc", offsets, inverse, offsets).min(axis=1)
    np.testing.assert_allclose(score.score(features, features), expected, rtol=1e-9)


def test_bottlenecks_as_small_as_those_of_random_weights_are_told_as_well(parts):
    def small(part):
        return replace(part, features=part.features * np.float32(1e-18))

    tiny = {
        **parts,
        "features": parts["features"] * np.float32(1e-18),
        "validation": small(parts["validation"]),
        "outliers": small(parts["outliers"]),
    }
    found = fit_out_of_distribution(**tiny).known.figures["auroc"]
    expected = fit_out_of_distribution(**parts).known.figures["auroc"]
    for name in FITS:
        assert found[name] == pytest.approx(expected[name], abs=0.02)


def test_of_many_classes_the_energy_is_that_of_the_trained_head(parts, monkeypatch):
    monkeypatch.setattr(out_of_distribution, "_MOST_LOGITS", 1)
    trained = fit_softmax_regression(parts["features"], parts["targets"])
    expected = fit_out_of_distribution(**parts, linear=trained).known.figures["auroc"]
    monkeypatch.undo()
    assert fit_out_of_distribution(**parts).known.figures["auroc"] == expected


def test_of_many_classes_and_a_head_that_is_not_linear_no_energy_is_tried(parts, monkeypatch):
    monkeypatch.setattr(out_of_distribution, "_MOST_LOGITS", 1)
    found = fit_out_of_distribution(**parts).known.figures["auroc"]
    assert set(found) == set(FITS) - {"energy"}


def test_class_means_are_those_of_each_class():
    random = np.random.default_rng(1)
    targets = random.permutation(np.repeat(np.arange(5), (1, 2, 3, 40, 7)))
    features = random.standard_normal((len(targets), 6)).astype(np.float32)
    means = class_means(features, targets, 5)
    for target in range(5):
        np.testing.assert_array_equal(means[target], features[targets == target].mean(axis=0))


def test_the_largest_directions_are_those_of_the_singular_values():
    random = np.random.default_rng(6)
    rows = (random.standard_normal((90, 60)) * np.geomspace(10, 0.1, 60)).astype(np.float32)
    directions, squares = largest_directions(rows, 8)
    _, values, exact = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(squares, values[:8] ** 2, rtol=1e-3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(8), atol=1e-5)
    assert np.linalg.norm(exact[:8] @ directions) ** 2 == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize(
    ("inside", "outside", "area"),
    [([1, 2], [3, 4], 1.0), ([3, 4], [1, 2], 0.0), ([1, 2], [1, 2], 0.5), ([1, 3], [2], 0.5)],
)
def test_the_area_is_how_often_the_outlier_scores_higher(inside, outside, area):
    assert area_under_roc(np.array(inside), np.array(outside)) == area


@pytest.mark.parametrize(("count", "rate", "rank"), [(19, 0.05, 19), (99, 0.05, 95), (9, 0.1, 9)])
def test_the_threshold_is_an_order_statistic(count, rate, rank):
    assert rejection_threshold(np.arange(1.0, count + 1), rate) == rank


@pytest.mark.parametrize(
    ("classes", "training", "validation", "said"),
    [
        (2, 100, 100, "2 classes, and at least 3"),
        (5, 24, 100, "24 training pictures"),
        (5, 100, 18, "18 validation pictures"),
        (3, 15, 19, None),
    ],
)
def test_too_little_to_fit_on_is_said(classes, training, validation, said):
    found = why_not(classes, training, validation, 0.05)
    assert (found is None) if said is None else said in (found or "")
