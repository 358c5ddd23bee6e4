"""Classes learned on the device: computed from statistics, served as a head, saved as one."""

import dataclasses
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from fic_runtime import BundleError, Classifier, ImageError, MultiClassifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import OutputError
from fic_runtime.heads import statistics

NEW = "neu"


@pytest.fixture
def teachable(bundle, replace):
    """Return a copy of the golden bundle with statistics of three classes."""
    random = np.random.default_rng(0)
    file = io.BytesIO()
    np.savez(
        file,
        means=random.normal(0, 1, (3, 12)).astype(np.float32),
        counts=np.array([50, 60, 70]),
        directions=np.eye(12, 4, dtype=np.float16),
        variances=np.array([4, 3, 2, 1], np.float32),
        rest=np.float32(0.25),
        variance=np.float64(0.01),
        caution=np.float32(6),  # the name in the file, older than that in the code
    )
    replace("teaching.npz", file.getvalue())
    return bundle


def some_statistics(classes=3, features=12, count=10**9):
    random = np.random.default_rng(0)
    return statistics.ClassStatistics(
        means=random.normal(0, 0.3, (classes, features)).astype(np.float32),
        counts=np.full(classes, count),
        directions=np.eye(features, 4),
        variances=np.array([4, 3, 2, 1], np.float32),
        rest=np.float32(0.25),
        variance=np.float64(0.04),
        extra_variance=np.float32(1),
    )


def test_the_head_is_ridge_regression_as_a_matrix_of_all_features_gives_it():
    teaching = some_statistics()
    means = teaching.means.astype(np.float64) / 0.2  # in units of the deviation
    offsets = means - means.mean(axis=0)
    within = np.diag(np.where(np.arange(12) < 4, np.resize([4, 3, 2, 1], 12), 0.25))
    ridge = statistics._RIDGE * (1 + (offsets**2).mean()) * np.eye(12)
    kernel = np.linalg.solve(within + offsets.T @ offsets / 3 + ridge, offsets.T / 3)
    kernel -= kernel.mean(axis=1, keepdims=True)
    head = teaching.head()
    scale = (head.kernel * kernel).sum() / (kernel**2).sum()
    np.testing.assert_allclose(head.kernel, scale * kernel, atol=1e-4 * np.abs(head.kernel).max())
    centre = teaching.means.mean(axis=0)
    np.testing.assert_allclose(centre @ head.kernel + head.bias, 0, atol=1e-5)
    # The scale is the likeliest one, and the more pictures may vary, the less sure it is.
    less_sure = dataclasses.replace(teaching, extra_variance=np.float32(20)).head()
    assert np.abs(less_sure.kernel).max() < 0.7 * np.abs(head.kernel).max()


def test_pictures_of_a_known_class_count_as_if_all_had_come_together():
    rows = np.random.default_rng(1).normal(5, 1, (10, 12)).astype(np.float32)
    first = some_statistics().updated(3, rows[:3])
    taught = first.updated(3, rows[3:])
    assert taught.counts.tolist() == [10**9] * 3 + [10]
    np.testing.assert_allclose(taught.means[3], rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(taught.means[:3], some_statistics().means)
    np.testing.assert_allclose(first.means[3], rows[:3].mean(axis=0), rtol=1e-6)  # as it was


def test_a_taught_label_is_named_and_travels_as_a_head(teachable, tmp_path):
    photo = teachable / "large.png"
    with Classifier(teachable) as classifier:
        classifier.teach(NEW, [photo])
        answer = classifier.predict(photo)
        assert (answer.label, len(answer.labels)) == (NEW, 4)
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
        for name in ("head", "head.zip"):
            classifier.save_head(tmp_path / name)
    for name in ("head", "head.zip"):
        with Classifier(teachable, head=tmp_path / name) as other:
            np.testing.assert_array_equal(other.predict(photo).probabilities, answer.probabilities)
            other.teach(NEW, [teachable / "grey.png"])
            assert other.manifest.origin["pictures"][NEW] == 2
        assert run_selftest(teachable, head=tmp_path / name).passed


def test_forgetting_undoes_teaching(teachable):
    photo = teachable / "large.png"
    with Classifier(teachable) as classifier:
        classifier.teach("a", [photo])
        classifier.forget("a")
        once = classifier.predict(photo).probabilities
        classifier.teach("b", [photo])
        classifier.forget("b")
        np.testing.assert_array_equal(classifier.predict(photo).probabilities, once)


def test_what_cannot_be_done_changes_nothing(teachable, golden, tmp_path):
    photo = teachable / "large.png"
    with Classifier(golden) as plain, pytest.raises(BundleError, match="--teachable"):
        plain.teach(NEW, [photo])
    with Classifier(teachable) as classifier:
        before = classifier.predict(photo).probabilities
        with pytest.raises(ImageError, match="picture 1"):
            classifier.teach(NEW, [photo, b"no picture"])
        with pytest.raises(ImageError, match="at least one"):
            classifier.teach(NEW, [])
        with pytest.raises(ValueError, match="one line"):
            classifier.teach("a\nb", [photo])
        with pytest.raises(BundleError, match="no label"):
            classifier.forget(NEW)
        with pytest.raises(ValueError, match="nothing was taught"):
            classifier.save_head(tmp_path / "head")
        np.testing.assert_array_equal(classifier.predict(photo).probabilities, before)
        classifier.forget("daisy")
        with pytest.raises(BundleError, match="only 2 labels"):
            classifier.forget(classifier.labels[0])


def test_an_odd_label_cannot_be_taught(teachable):
    with (
        Classifier(teachable) as classifier,
        pytest.raises(ValueError, match="not one line of printable text"),
    ):
        classifier.teach("c\td", [teachable / "large.png"])


def test_nothing_is_learned_of_bottlenecks_that_are_no_numbers(teachable, monkeypatch):
    with Classifier(teachable) as classifier:
        rows = classifier.extract([teachable / "large.png"])
        rows[0, 0] = np.nan
        monkeypatch.setattr(classifier, "extract", lambda _: rows)
        with pytest.raises(BundleError, match="gives no numbers for one of the pictures"):
            classifier.teach(NEW, [teachable / "large.png"])
        assert NEW not in classifier.labels


def test_saving_replaces_only_heads(teachable, tmp_path):
    with Classifier(teachable) as classifier:
        classifier.teach(NEW, [teachable / "large.png"])
        with pytest.raises(OutputError, match="not a head"):
            classifier.save_head(teachable)
        classifier.save_head(tmp_path / "head")
        classifier.save_head(tmp_path / "head")
    with Classifier(teachable, head=tmp_path / "head") as classifier:
        assert classifier.labels[-1] == NEW


def test_what_was_taught_travels_in_a_pickle(teachable, tmp_path):
    photo = teachable / "large.png"
    with Classifier(teachable) as classifier:
        classifier.teach(NEW, [photo])
        answer = classifier.predict(photo)
        sent = pickle.dumps(classifier)
    with pickle.loads(sent) as received:
        assert received.predict(photo).probabilities.tobytes() == answer.probabilities.tobytes()
        assert received.manifest.origin["pictures"][NEW] == 1
        received.teach(NEW, [teachable / "grey.png"])
        assert received.manifest.origin["pictures"][NEW] == 2
        received.save_head(tmp_path / "head")
    with Classifier(teachable, head=tmp_path / "head") as saved:
        assert saved.labels == answer.labels
        assert pickle.loads(pickle.dumps(saved)).labels == answer.labels


def test_a_taught_head_has_as_many_threads_as_any_small_one(teachable, monkeypatch):
    """More would spin after each run in the way of the base's."""
    seen = []
    real = onnxruntime.InferenceSession

    def session(model, options, **rest):
        seen.append(options.intra_op_num_threads)
        return real(model, options, **rest)

    with Classifier(teachable, threads=2) as classifier:
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        classifier.teach(NEW, [teachable / "large.png"])
    assert seen == [1]


def test_the_command_teaches_and_forgets_in_heads_of_their_own(run, teachable, tmp_path):
    head, photo = tmp_path / "head", teachable / "large.png"
    code, out, err = run("teach", teachable, NEW, photo, "--out", head)
    assert (code, err) == (0, "")
    assert f"{NEW} (1 picture)" in out
    assert run("predict", teachable, photo, "--head", head)[1].split("\t")[1].startswith(NEW)
    assert run("forget", teachable, NEW, "--head", head, "--out", head)[0] == 0
    with Classifier(teachable, head=head) as classifier:
        assert NEW not in classifier.labels


def test_the_command_leaves_out_a_picture_that_cannot_be_read(run, teachable, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    pictures = (broken, teachable / "large.png")
    code, out, err = run("teach", teachable, NEW, *pictures, "--out", tmp_path / "head")
    assert code == 1
    assert f"{NEW} (1 picture)" in out
    assert err.count("\n") == 1
    assert "broken.png" in err


REFUSED = {
    "not teachable": (("teach", "{plain}", NEW, "{photo}"), "export it with `fic export RUN --te"),
    "no picture": (("teach", "{bundle}", NEW, "{tmp}/none.png"), "no such file"),
    "two lines": (("teach", "{bundle}", "a\nb", "{photo}"), "is not one line of printable text"),
    "nothing of this name": (("forget", "{bundle}", NEW), "has no label 'neu' to forget"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taught_is_said_and_nothing_is_written(
    case, run, teachable, golden, tmp_path
):
    arguments, message = REFUSED[case]
    places = {"plain": golden, "bundle": teachable, "tmp": tmp_path}
    places["photo"] = golden / "large.png"
    given = (each.format(**places) for each in arguments)
    code, _, err = run(*given, "--out", tmp_path / "head")
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "head").exists()


def test_statistics_that_do_not_fit_the_head_are_refused(teachable, replace):
    replace("teaching.npz", b"PK no archive")
    with pytest.raises(BundleError, match=r"teaching\.npz: cannot be read"):
        Classifier(teachable)


def test_a_taught_head_serves_beside_others(teachable, tmp_path):
    photo = teachable / "large.png"
    with Classifier(teachable) as classifier:
        classifier.teach(NEW, [photo])
        classifier.save_head(tmp_path / "head")
    with MultiClassifier(teachable, {"old": teachable, "new": tmp_path / "head"}) as both:
        found = both.predict(photo)
    assert found["new"].label == NEW
    assert NEW not in found["old"].labels


def test_no_prediction_is_of_two_heads_while_labels_are_taught_and_forgotten(teachable):
    photo = teachable / "large.png"
    with Classifier(teachable, threads=1) as classifier, ThreadPoolExecutor(3) as pool:
        stop = threading.Event()

        def watch():
            seen = set()
            while not stop.is_set():
                answer = classifier.predict(photo)
                assert len(answer.labels) == len(answer.probabilities)
                seen.add(answer.labels)
            return seen

        watchers = [pool.submit(watch) for _ in range(3)]
        for _ in range(40):
            classifier.teach(NEW, [photo])
            classifier.forget(NEW)
        stop.set()
        assert {labels for each in watchers for labels in each.result()} <= {
            classifier.labels,
            (*classifier.labels, NEW),
        }
