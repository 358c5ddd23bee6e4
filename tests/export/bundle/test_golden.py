"""The recorded results of a bundle: drawn, not photographed, and the same each time."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fic_export.bundle.golden import write_golden
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import read_manifest
from fic_runtime.images import load_image

GOLDEN = Path(__file__).parents[2] / "data/bundle-v1"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    write_golden(path, GOLDEN)
    return path


def test_the_same_bundle_gives_the_same_bytes(file, tmp_path):
    write_golden(tmp_path / "again.npz", GOLDEN)
    assert digest(tmp_path / "again.npz") == digest(file)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_archive_carries_no_time(file):
    with zipfile.ZipFile(file) as archive:
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(1980, 1, 1)}


def test_shapes_and_types_are_those_of_the_manifest(file):
    manifest = read_manifest(bundle_files(GOLDEN))
    with np.load(file) as arrays:
        for name, tensor in (
            ("images", manifest.base.input),
            ("bottlenecks", manifest.base.output),
            ("probabilities", manifest.head.output),
        ):
            assert (str(arrays[name].dtype), arrays[name].shape) == (
                tensor.dtype,
                (3, *tensor.shape[1:]),
            )


def test_the_scores_for_unknown_pictures_are_recorded(tmp_path):
    bundle = Path(shutil.copytree(GOLDEN, tmp_path / "bundle"))
    values = json.loads((bundle / "manifest.json").read_text("utf-8"))
    values["known"] = {
        "method": "maximum_probability", "threshold": 0.5, "file": None, "false_rejection": 0.05
    }  # fmt: skip
    (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
    write_golden(tmp_path / "golden.npz", bundle)
    with np.load(tmp_path / "golden.npz") as arrays:
        expected = 1 - arrays["probabilities"].max(axis=1)
        assert arrays["ood_scores"].dtype == np.float32
        np.testing.assert_array_equal(arrays["ood_scores"], expected)


def test_without_such_a_score_none_are_recorded(file):
    with np.load(file) as arrays:
        assert "ood_scores" not in arrays


def test_the_picture_becomes_the_first_image(file):
    geometry = read_manifest(bundle_files(GOLDEN)).preprocessing.geometry
    with np.load(file) as arrays:
        pixels = load_image(arrays["picture"].tobytes(), geometry)
        np.testing.assert_array_equal(pixels, arrays["images"][0])


def test_the_images_are_not_flat_and_not_alike(file):
    """Flat or equal ones would pass on a device that mixes up channels, axes or pictures."""
    with np.load(file) as arrays:
        images = arrays["images"].astype(int)
        rows = arrays["bottlenecks"]
    assert images.std(axis=(1, 2)).min() > 20
    assert np.abs(images[:, :, ::-1] - images).mean() > 10
    assert np.abs(images[..., ::-1] - images).mean() > 10
    assert min(np.abs(rows[i] - rows[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.01
