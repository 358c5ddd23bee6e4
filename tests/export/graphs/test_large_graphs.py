"""A graph that protobuf cannot hold has its weights in one file beside it, under a digest."""

import numpy as np
import onnx
import onnxruntime
import pytest

import fic_export
from fic_export.errors import OutputError
from fic_export.graphs import files as graph_files
from fic_export.triton import export_triton
from fic_runtime.bundle import open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

PREPROCESSING = Preprocessing(
    geometry=Geometry(height=24, width=24), pixels=Pixels(scale=(0.01, 0.01, 0.01))
)


@pytest.fixture
def export(monkeypatch):
    """Return a function that exports a bundle as if 2 kB were too much for protobuf."""
    import keras

    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    head = keras.Sequential([keras.Input((32,)), keras.layers.Dense(2, activation="softmax")])
    monkeypatch.setattr(graph_files, "LARGEST", 2000)

    def write(out, **options):
        return fic_export.export_bundle(
            base, head, labels=("a", "b"), preprocessing=PREPROCESSING, out=out, **options
        )

    return write


def probabilities(bundle, pixels):
    with Classifier(bundle, device="cpu") as classifier:
        return classifier.run(pixels)[1]


def test_a_large_base_lies_in_two_files_of_the_bundle_and_answers_alike(
    export, tmp_path, monkeypatch
):
    manifest = export(tmp_path / "large", single_graph=True)
    monkeypatch.undo()
    export(tmp_path / "small", single_graph=True)
    names = {each.name for each in (tmp_path / "large").iterdir()}
    assert names - {each.name for each in (tmp_path / "small").iterdir()} == {
        "base.onnx.data",
        "classifier.onnx.data",
    }
    assert {"base.onnx.data", "classifier.onnx.data"} <= manifest.files.keys()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    expected = probabilities(tmp_path / "small", pixels)
    np.testing.assert_array_equal(probabilities(tmp_path / "large", pixels), expected)
    single = onnxruntime.InferenceSession(tmp_path / "large/classifier.onnx")
    np.testing.assert_allclose(single.run(None, {"image": pixels})[0], expected, atol=1e-6)
    assert run_selftest(tmp_path / "large", device="cpu").passed


def test_the_graph_names_the_file_beside_it_plainly_and_is_valid(export, tmp_path):
    export(tmp_path / "bundle")
    path = tmp_path / "bundle/base.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    places = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {"base.onnx.data"}
    assert path.stat().st_size < path.with_name("base.onnx.data").stat().st_size
    assert {each.key for each in model.metadata_props} >= {"preprocessing", "imgsz"}


def test_the_bundle_may_be_moved_and_its_bytes_are_the_same_each_time(export, tmp_path):
    export(tmp_path / "one")
    export(tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "moved")
    assert run_selftest(tmp_path / "moved", device="cpu").passed
    for file in (tmp_path / "moved").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_changed_byte_of_the_weights_is_found(export, tmp_path):
    export(tmp_path / "bundle")
    file = tmp_path / "bundle/base.onnx.data"
    opened = open_bundle(tmp_path / "bundle")
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    # Also by who has opened the bundle before, as a process that is forked has.
    for look in (lambda: open_bundle(tmp_path / "bundle"), lambda: opened.model("base.onnx")):
        with pytest.raises(BundleError, match=r"base\.onnx\.data: does not match its checksum"):
            look()


def test_it_does_not_become_an_archive_that_nobody_could_open(export, tmp_path):
    with pytest.raises(OutputError, match=r"base\.onnx is larger than 2 GB.*give a folder"):
        export(tmp_path / "bundle.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_triton_repository_holds_the_weights_too(export, tmp_path):
    export(tmp_path / "bundle")
    export_triton(tmp_path / "bundle", tmp_path / "models")
    session = onnxruntime.InferenceSession(tmp_path / "models/classifier_base/1/model.onnx")
    assert session.run(None, {"image": np.zeros((1, 24, 24, 3), np.uint8)})[0].shape == (1, 32)
