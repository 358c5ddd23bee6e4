"""Bundles on disk: their files are what was exported, and old ones stay readable."""

import json
from pathlib import Path

import numpy as np
import pytest

from fic_runtime.bundle import file_digest, open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.errors import BundleError
from fic_runtime.manifest import FORMAT
from fic_runtime.selftest import run_selftest

GOLDEN = sorted((Path(__file__).parents[1] / "data").glob("bundle-v*"))
FILES = ("README.md", "base.onnx", "golden.npz", "head.onnx", "labels.txt")


def test_there_is_a_golden_bundle_of_every_format():
    assert [each.name for each in GOLDEN] == [f"bundle-v{n}" for n in range(1, FORMAT + 1)]


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_a_bundle_of_every_format_gives_what_it_gave_when_it_was_made(folder):
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    with Classifier(folder, device="cpu") as classifier:
        for name, figures in expected.items():
            near = {"rtol": 0, "atol": figures["tolerance"]}
            (bottleneck,) = classifier.extract([folder / name])
            prediction = classifier.predict(folder / name)
            np.testing.assert_allclose(bottleneck, figures["bottleneck"], **near)
            np.testing.assert_allclose(prediction.probabilities, figures["probabilities"], **near)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_a_bundle_of_every_format_passes_its_self_test(folder):
    assert run_selftest(folder, device="cpu").passed


def test_the_golden_answers_tell_mistakes_apart(golden):
    """Were they alike, wrong channels or a wrong resize could pass."""
    expected = json.loads((golden / "expected.json").read_text("utf-8"))
    rows = np.array([figures["bottleneck"] for figures in expected.values()])
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2)
    assert apart[~np.eye(len(rows), dtype=bool)].min() > 0.03


def test_labels_stand_in_their_order_one_a_line(golden):
    lines = (golden / "labels.txt").read_text("utf-8").splitlines()
    assert tuple(lines) == open_bundle(golden).manifest.labels


def test_every_file_is_under_a_digest(golden):
    assert tuple(sorted(open_bundle(golden).manifest.files)) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(name, bundle):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: does not match its checksum .*copy the"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, bundle):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: cannot be read \(No such file.*copy the"):
        open_bundle(bundle)


def test_a_folder_in_place_of_a_file_is_refused(bundle):
    (bundle / "head.onnx").unlink()
    (bundle / "head.onnx").mkdir()
    with pytest.raises(BundleError, match=r"head\.onnx: cannot be read"):
        open_bundle(bundle)


def test_files_that_the_manifest_does_not_name_are_left_alone(bundle):
    (bundle / "notes.txt").write_text("mine")
    open_bundle(bundle)


def test_a_bundle_may_be_moved_and_linked(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    assert open_bundle(str(tmp_path / "current")).path("base.onnx").is_file()


def test_the_digest_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
