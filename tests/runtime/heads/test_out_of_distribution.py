"""`prediction.known`: a bundle's score for strange pictures, read, refused and printed."""

import csv
import hashlib
import io
import json

import numpy as np
import pytest

from fic_runtime.__main__ import main
from fic_runtime.classifier import Classifier
from fic_runtime.errors import BundleError
from fic_runtime.heads.ood_scores import normalised, pooled

pytestmark = pytest.mark.ood

SCORE = {"threshold": 0.5, "false_rejection": 0.05, "file": "known.npz"}


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)


@pytest.fixture
def features(golden, picture):
    with Classifier(golden, device="cpu") as classifier:
        return pooled(classifier.extract([picture]))


@pytest.fixture
def add(bundle, edit):
    """Return a function that gives the copy of the bundle a score."""

    def write(method, arrays, /, **changes):
        file = io.BytesIO()
        np.savez(file, **arrays)
        (bundle / "known.npz").write_bytes(file.getvalue())
        digest = hashlib.sha256(file.getvalue()).hexdigest()

        def change(values):
            values["known"] = {**SCORE, "method": method, **changes}
            values["files"]["known.npz"] = digest

        edit(change)

    return write


def run(*command):
    with pytest.raises(SystemExit) as stop:
        main(list(command))
    assert stop.value.code == 0


def numbers(features):
    """Return numbers for which the picture of these features is the most usual one."""
    row = features[0]
    size = len(row)
    return {
        "energy": {
            "weights": np.ones((size, 2), np.float16),
            "bias": np.zeros(2, np.float32),
            "scale": np.float32(1),
        },
        "mahalanobis": {
            "centre": row,
            "means": np.zeros((2, size), np.float16),
            "directions": np.eye(size, 2, dtype=np.float16),
            "weights": np.ones(2, np.float32),
            "rest": np.float32(1),
            "scale": np.float32(1),
        },
        "normalised_mahalanobis": {
            "centre": normalised(features)[0],
            "means": np.zeros((2, size), np.float16),
            "directions": np.eye(size, 2, dtype=np.float16),
            "weights": np.ones(2, np.float32),
            "rest": np.float32(1),
            "scale": np.float32(1),
        },
        "nearest_neighbour": {"neighbours": normalised(features).astype(np.float16)},
    }


def test_a_bundle_without_a_score_does_not_say(golden, picture):
    with Classifier(golden, device="cpu") as classifier:
        prediction = classifier.predict(picture)
    assert prediction.known is None
    assert prediction.ood_score is None
    assert "known" not in prediction.to_dict()


@pytest.mark.parametrize("method", ["mahalanobis", "normalised_mahalanobis", "nearest_neighbour"])
def test_the_usual_picture_is_known_and_past_the_threshold_it_is_not(
    method, bundle, add, features, picture
):
    arrays = numbers(features)[method]
    for threshold, known in ((0.01, True), (-1.0, False)):
        add(method, arrays, threshold=threshold)
        with Classifier(bundle, device="cpu") as classifier:
            prediction = classifier.predict(picture)
        assert prediction.known is known
        assert prediction.ood_score == pytest.approx(0, abs=1e-3)
        assert prediction.to_dict()["known"] is known


def test_energy_is_the_negative_logarithm_of_the_sum_of_exponentials(
    bundle, add, features, picture
):
    add("energy", numbers(features)["energy"])
    with Classifier(bundle, device="cpu") as classifier:
        found = classifier.predict(picture).ood_score
    assert found == pytest.approx(-(features.sum() + np.log(2)), rel=1e-4)


def test_the_maximum_probability_needs_no_file(bundle, edit, picture):
    known = {**SCORE, "file": None, "method": "maximum_probability"}
    edit(lambda values: values.update(known=known))
    with Classifier(bundle, device="cpu") as classifier:
        prediction = classifier.predict(picture)
    assert prediction.ood_score == pytest.approx(1 - prediction.probability)
    assert prediction.known == (prediction.probability >= 0.5)


def test_a_batch_gets_the_scores_of_its_pictures(bundle, add, features, picture):
    add("nearest_neighbour", numbers(features)["nearest_neighbour"])
    other = np.zeros_like(picture)
    with Classifier(bundle, device="cpu") as classifier:
        batch = classifier.predict_batch([picture, other, picture])
        alone = [classifier.predict(each).ood_score for each in (picture, other, picture)]
    assert [each.ood_score for each in batch] == pytest.approx(alone, abs=1e-5)


def test_features_of_a_map_are_the_mean_over_its_places():
    maps = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    np.testing.assert_allclose(pooled(maps), maps.reshape(2, 12, 5).mean(axis=1), rtol=1e-6)
    assert pooled(maps[:, 0, 0]) is not None and pooled(maps[:, 0, 0]).shape == (2, 5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_lengths_become_one_whatever_the_scale(scale):
    rows = normalised(np.array([[3, 4], [0, 0]], np.float32) * np.float32(scale))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "from the future"}, "upgrade fic-runtime"),
        ({"threshold": "high"}, "finite number"),
        ({"threshold": float("nan")}, "NaN is none of its values"),
        ({"file": "../known.npz"}, "not the name of a file inside"),
        ({"file": "other.npz"}, "no checksum"),
        ({"file": None}, "does not hold the numbers"),
        ({"method": 3}, "should be text"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(changes, said, bundle, add, features):
    add("nearest_neighbour", numbers(features)["nearest_neighbour"], **changes)
    with pytest.raises(BundleError, match=said):
        Classifier(bundle, device="cpu")


def wrong_numbers(features):
    right = numbers(features)
    near, far = right["nearest_neighbour"], right["mahalanobis"]
    return {
        "of another method": near | {"weights": np.ones(3, np.float32)},
        "not a number": {"neighbours": near["neighbours"] * np.float16("nan")},
        "of another base": {"neighbours": near["neighbours"][:, 1:]},
        "not a matrix": {"neighbours": near["neighbours"][0]},
        "whole numbers": {"neighbours": near["neighbours"].astype(np.int64)},
        "no picture": {"neighbours": near["neighbours"][:0]},
        "nothing": {},
        "mahalanobis that does not fit": far | {"weights": np.ones(3, np.float32)},
    }


@pytest.mark.parametrize("case", wrong_numbers(np.ones((1, 4), np.float32)))
def test_numbers_that_do_not_fit_are_refused(case, bundle, add, features):
    method = "mahalanobis" if case.startswith("mahalanobis") else "nearest_neighbour"
    add(method, wrong_numbers(features)[case])
    with pytest.raises(BundleError, match=r"known\.npz"):
        Classifier(bundle, device="cpu")


def test_a_file_that_is_no_archive_is_refused(bundle, add, features, edit):
    add("nearest_neighbour", numbers(features)["nearest_neighbour"])
    (bundle / "known.npz").write_bytes(b"no archive")
    digest = hashlib.sha256(b"no archive").hexdigest()
    edit(lambda values: values["files"].update({"known.npz": digest}))
    with pytest.raises(BundleError, match=r"known\.npz: cannot be read"):
        Classifier(bundle, device="cpu")


@pytest.mark.parametrize("threshold", [-1.0, 2.0])
def test_the_command_line_marks_what_it_does_not_know(
    threshold, bundle, add, features, picture, tmp_path, capsys
):
    cv2 = pytest.importorskip("cv2")
    add("nearest_neighbour", numbers(features)["nearest_neighbour"], threshold=threshold)
    file = tmp_path / "picture.png"
    cv2.imwrite(str(file), picture)
    command = ["predict", str(bundle), str(file), "--device", "cpu"]
    run(*command)
    assert capsys.readouterr().out.rstrip().endswith("(unknown?)") == (threshold < 0)
    run(*command, "--json")
    assert json.loads(capsys.readouterr().out)["known"] is (threshold > 0)
    run(*command, "--csv")
    head, row = csv.reader(capsys.readouterr().out.splitlines())
    assert head == ["file", "label", "probability", "known", "ood_score", "error"]
    assert row[3] == ("true" if threshold > 0 else "false")


def test_a_table_without_a_score_is_as_it_was(golden, picture, tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "picture.png"
    cv2.imwrite(str(file), picture)
    run("predict", str(golden), str(file), "--device", "cpu", "--csv")
    assert capsys.readouterr().out.splitlines()[0] == "file,label,probability,error"
