"""Classes learned on the device: computed from statistics, served as a head, saved as one."""

import io
import pickle

import numpy as np
import pytest

from fic_runtime import BundleError, Classifier, ImageError
from fic_runtime.errors import OutputError
from fic_runtime.selftest import run_selftest

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
    )
    replace("teaching.npz", file.getvalue())
    return bundle


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


def test_saving_replaces_only_heads_and_pickling_asks_for_it(teachable, golden, tmp_path):
    with Classifier(teachable) as classifier:
        classifier.teach(NEW, [teachable / "large.png"])
        with pytest.raises(OutputError, match="no head"):
            classifier.save_head(teachable)
        with pytest.raises(ValueError, match="save_head"):
            pickle.dumps(classifier)
        classifier.save_head(tmp_path / "head")
        classifier.save_head(tmp_path / "head")
        classifier.swap_head(tmp_path / "head")
        assert pickle.loads(pickle.dumps(classifier)).labels[-1] == NEW
