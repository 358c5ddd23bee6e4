"""A bundle from any two Keras models: whole, checked, the same each time, or not there at all."""

import gc
import json
import os
from zipfile import ZipFile

import cv2
import numpy as np
import onnx
import pytest

import fic_export
from fic_export.bundle import export_bundle
from fic_export.bundle.parity import keras_probabilities
from fic_export.conversion import convert_base
from fic_export.errors import OutputError, ParityError
from fic_export.fits.temperature import Calibration, with_temperature
from fic_export.options import Bounds, KerasClassifier
from fic_runtime.bundle import open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError, ImageError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

LABELS = ("Gänseblümchen", "バラ の花", "tulip | red")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=32, width=32),
    pixels=Pixels(channel_order="bgr", scale=(0.02, 0.03, 0.04), offset=(-1.0, -2.0, -3.0)),
)
WIDER = Preprocessing(geometry=Geometry(height=32, width=48), pixels=Pixels())
FILES = {"README.md", "base.onnx", "golden.npz", "head.onnx", "labels.txt", "manifest.json"}


def make_base(seed=0, *, pooled=True):
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 32, 3))
    layer = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(image)
    layer = keras.layers.DepthwiseConv2D(3, padding="same")(layer)
    if pooled:
        layer = keras.layers.GlobalAveragePooling2D()(layer)
    return keras.Model(image, layer, name="base")


def make_head(seed=1, *, shape=(6,)):
    import keras

    keras.utils.set_random_seed(seed)
    bottleneck = keras.Input(shape)
    layer = keras.layers.Flatten()(bottleneck)
    layer = keras.layers.Dense(len(LABELS), activation="softmax")(layer)
    return keras.Model(bottleneck, layer, name="head")


@pytest.fixture(scope="module")
def base():
    return make_base()


@pytest.fixture(scope="module")
def head():
    return make_head()


@pytest.fixture(scope="module")
def classifier(base, head):
    return KerasClassifier(base=base, head=head, labels=LABELS, preprocessing=PREPROCESSING)


@pytest.fixture(scope="module", autouse=True)
def quick_collection(base, head):
    """Keep what is loaded by now from the collections of each conversion, which then take no time.

    They are for bases of hundreds of megabytes; these have some hundred weights.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def base_graph(base):
    return convert_base(base, PREPROCESSING).SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    files = []
    for number in range(20):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        files.append(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
        cv2.imwrite(str(files[-1]), cv2.resize(coarse, (70 + number, 50)))
    return files


@pytest.fixture(scope="module")
def export(base, head, base_graph, pictures):
    """Return a function that exports the two models, or others in their place."""

    def write(out, **changes):
        arguments = {
            "base": base,
            "head": head,
            "labels": LABELS,
            "preprocessing": PREPROCESSING,
            "pictures": pictures,
            "out": out,
            "base_graph": base_graph,
        } | changes
        return export_bundle(arguments.pop("base"), arguments.pop("head"), **arguments)

    return write


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "bundle"
    export(
        out,
        base_graph=None,
        origin={"base": "my own", "weights": "0" * 32},
        metrics={"accuracy": 0.75, "loss": None, "confusion_matrix": [[1]]},
    )
    return out


def test_a_bundle_holds_these_files_and_nothing_is_left_beside_it(bundle):
    assert {path.name for path in bundle.iterdir()} == FILES
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_the_manifest_says_what_was_exported(bundle):
    manifest = open_bundle(bundle).manifest
    assert manifest.labels == LABELS
    assert manifest.preprocessing == PREPROCESSING
    assert manifest.origin == {"base": "my own", "weights": "0" * 32}
    assert manifest.metrics["accuracy"] == 0.75
    assert {"fic-runtime", "keras", "tensorflow", "onnxruntime"} <= manifest.versions.keys()
    assert manifest.base.input.shape == (None, 32, 32, 3)
    assert manifest.base.output.shape == manifest.head.input.shape == (None, 6)
    assert manifest.head.output.shape == (None, 3)


def test_what_is_returned_is_what_was_written(export, tmp_path):
    assert export(tmp_path / "bundle") == open_bundle(tmp_path / "bundle").manifest


def test_the_figures_of_the_comparison_are_in_the_manifest(bundle, pictures):
    parity = open_bundle(bundle).manifest.parity
    assert parity["pictures"] == len(pictures)
    assert 0 <= parity["mean_difference"] <= parity["largest_difference"] < 1e-5
    assert parity["top_1_agreement"] == 1.0
    assert len(parity["worst_files"]) == 5
    assert set(parity["worst_files"]) <= {path.name for path in pictures}
    assert parity["keras_accuracy"] is parity["runtime_accuracy"] is None


def test_the_accuracy_of_both_is_measured_where_the_truth_is_known(
    export, classifier, pictures, tmp_path
):
    named = keras_probabilities(classifier, pictures).argmax(axis=1)
    targets = [*named[:15], *(named[15:] + 1) % len(LABELS)]
    parity = export(tmp_path / "b", targets=targets, bounds=Bounds(min_accuracy=0.75)).parity
    assert (parity["keras_accuracy"], parity["runtime_accuracy"]) == (0.75, 0.75)
    with pytest.raises(ParityError, match=r"is 75\.00% \(at least 76\.00% is asked for\)"):
        export(tmp_path / "c", targets=targets, bounds=Bounds(min_accuracy=0.76))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_bundle_says_what_keras_says_of_files(bundle, classifier, pictures):
    expected = keras_probabilities(classifier, pictures)
    with Classifier(bundle, device="cpu") as exported:
        found = [prediction.probabilities for prediction in exported.predict_batch(pictures)]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["base.onnx", "head.onnx"])
def test_the_graphs_are_valid_for_any_batch(name, bundle):
    model = onnx.load(bundle / name)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param


def test_the_self_test_passes(bundle):
    assert run_selftest(bundle, device="cpu").passed


def test_labels_and_preprocessing_are_in_the_graphs_too(bundle):
    base, head = (
        {each.key: each.value for each in onnx.load(bundle / name).metadata_props}
        for name in ("base.onnx", "head.onnx")
    )
    assert Preprocessing.from_dict(json.loads(base["preprocessing"])) == PREPROCESSING
    assert tuple(json.loads(head["labels"])) == LABELS


def test_labels_of_every_script_are_written_as_they_are(bundle):
    assert (bundle / "labels.txt").read_text("utf-8") == "".join(f"{each}\n" for each in LABELS)
    assert LABELS[1] in (bundle / "manifest.json").read_text("utf-8")


def test_the_card_shows_the_figures_and_no_list_of_numbers(bundle):
    card = (bundle / "README.md").read_text("utf-8")
    assert "| accuracy | 0.75 |" in card
    assert "| loss | - |" in card
    assert "confusion" not in card
    assert ", ".join(LABELS).replace("|", "\\|") in card


def test_a_bar_in_a_label_breaks_no_table(export, tmp_path):
    figures = {"images": 5, "precision": None, "recall": 0.5}
    export(tmp_path / "b", metrics={"per_class": dict.fromkeys(LABELS, figures)})
    assert r"| tulip \| red | 5 | - | 0.5 |" in (tmp_path / "b/README.md").read_text("utf-8")


def test_the_same_models_give_the_same_bytes(export, bundle, tmp_path):
    export(
        tmp_path / "again",
        base_graph=None,
        origin={"base": "my own", "weights": "0" * 32},
        metrics={"accuracy": 0.75, "loss": None, "confusion_matrix": [[1]]},
    )
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes(), name


def test_an_archive_holds_the_files_of_the_folder_and_answers_alike(export, bundle, tmp_path):
    export(tmp_path / "b.zip")
    export(tmp_path / "folder")
    with ZipFile(tmp_path / "b.zip") as archive:
        assert archive.namelist() == sorted(FILES)
        for name in FILES:
            assert archive.read(name) == (tmp_path / "folder" / name).read_bytes()
    assert run_selftest(tmp_path / "b.zip", device="cpu").passed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "folder"]


def test_an_archive_is_the_same_to_the_byte(export, tmp_path, monkeypatch):
    export(tmp_path / "one.zip")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    export(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_an_earlier_archive_is_replaced_and_a_refused_one_leaves_it(export, wrong_graph, tmp_path):
    export(tmp_path / "b.zip", labels=("a", "b", "c"))
    export(tmp_path / "b.zip")
    before = (tmp_path / "b.zip").read_bytes()
    with pytest.raises(ParityError):
        export(tmp_path / "b.zip", base_graph=wrong_graph)
    assert (tmp_path / "b.zip").read_bytes() == before
    assert open_bundle(tmp_path / "b.zip").manifest.labels == LABELS
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.parametrize("kind", ["text", "other archive", "folder"])
def test_an_archive_never_replaces_something_else(kind, export, tmp_path):
    place = tmp_path / "b.zip"
    if kind == "folder":
        place.mkdir()
    elif kind == "text":
        place.write_text("precious")
    else:
        with ZipFile(place, "w") as archive:
            archive.writestr("photo.jpg", b"precious")
    before = None if place.is_dir() else place.read_bytes()
    with pytest.raises(OutputError, match=r"b\.zip: is a f"):
        export(place)
    assert before is None or place.read_bytes() == before


def test_a_graph_that_was_converted_before_gives_the_same_file(export, bundle, tmp_path):
    export(tmp_path / "b")
    assert (tmp_path / "b/base.onnx").read_bytes() == (bundle / "base.onnx").read_bytes()


def test_a_folder_that_cannot_be_made_fails_before_the_conversion(export, tmp_path, monkeypatch):
    def convert(*_):
        raise AssertionError("minutes of conversion for nothing")

    monkeypatch.setattr(fic_export.bundle.export, "convert_base", convert)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        export(tmp_path / "file/b", base_graph=None)


def test_a_bottleneck_may_be_a_map(export, tmp_path):
    base = make_base(pooled=False)
    head = make_head(shape=base.output_shape[1:])
    export(tmp_path / "b", base=base, head=head, base_graph=None)
    with Classifier(tmp_path / "b", device="cpu") as classifier:
        picture = np.zeros((32, 32, 3), np.uint8)
        assert classifier.extract([picture, picture]).shape == (2, *base.output_shape[1:])


def test_a_bundle_is_compared_at_its_temperature_and_says_it(export, tmp_path):
    made = {}
    for name, calibration in (("plain", None), ("flat", Calibration(temperature=4.0))):
        manifest = export(tmp_path / name, calibration=calibration)
        assert manifest.parity["largest_difference"] < 1e-5
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        with Classifier(tmp_path / name, device="cpu") as classifier:
            made[name] = classifier.predict(picture)
    assert open_bundle(tmp_path / "plain").manifest.calibration == {}
    assert open_bundle(tmp_path / "flat").manifest.calibration["temperature"] == 4.0
    assert made["plain"].label == made["flat"].label
    expected = with_temperature(made["plain"].probabilities[None], 4.0)[0]
    np.testing.assert_allclose(made["flat"].probabilities, expected, atol=1e-5)


def test_progress_counts_every_picture(export, pictures, tmp_path):
    seen = []
    export(tmp_path / "b", progress=seen.append)
    assert sum(seen) == len(pictures)


# --- what is refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong_graph():
    """Return the graph of a base of the same shape with other weights."""
    return convert_base(make_base(seed=5), PREPROCESSING).SerializeToString()


@pytest.fixture(scope="module")
def nan_graph(base):
    model = convert_base(base, PREPROCESSING)
    kernel = next(each for each in model.graph.initializer if list(each.dims) == [6, 1, 3, 3])
    nan = np.full(kernel.dims, np.nan, np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(nan, kernel.name))
    return model.SerializeToString()


def test_a_graph_of_another_base_is_refused_and_nothing_is_written(export, wrong_graph, tmp_path):
    with pytest.raises(ParityError, match=r"differ from Keras by 0\.\d+ on ") as caught:
        export(tmp_path / "a/b", base_graph=wrong_graph)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_refused_bundle_leaves_the_earlier_one(export, wrong_graph, tmp_path):
    export(tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    with pytest.raises(ParityError):
        export(tmp_path / "bundle", base_graph=wrong_graph)
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_other_bounds_let_it_pass_and_the_manifest_says_so(export, wrong_graph, tmp_path):
    bounds = Bounds(max_difference=1.0, min_agreement=0.0)
    parity = export(tmp_path / "b", base_graph=wrong_graph, bounds=bounds).parity
    assert parity["largest_difference"] > 1e-3
    assert run_selftest(tmp_path / "b", device="cpu").passed


def test_a_graph_with_a_custom_operator_is_refused(export, base_graph, tmp_path):
    model = onnx.load_from_string(base_graph)
    (relu,) = (node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Gelu", "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(BundleError, match=r"base\.onnx: uses custom operators .*microsoft\.Gelu"):
        export(tmp_path / "b", base_graph=model.SerializeToString())
    assert list(tmp_path.iterdir()) == []


def test_answers_that_are_no_numbers_are_refused_by_every_bound(export, nan_graph, tmp_path):
    with pytest.raises(ParityError, match="differ from Keras by nan"):
        bounds = Bounds(max_difference=float("inf"), min_agreement=0.0)
        export(tmp_path / "b", base_graph=nan_graph, bounds=bounds)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_read_is_named(export, pictures, tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        export(tmp_path / "b", pictures=[*pictures, tmp_path / "none.png"])
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_never_touched(export, tmp_path):
    (tmp_path / "photo.jpg").write_text("precious")
    with pytest.raises(OutputError, match="holds other files and no manifest"):
        export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("out", ["file/b", "file/a/b", "a" * 300])
def test_a_place_that_cannot_be_written_is_one_sentence(out, export, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="cannot be written"):
        export(tmp_path / out)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_sentence(export, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        export(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:2]}, "for 2 labels"),
        ({"labels": ("a", "b", "a")}, "two labels are the same: a, a, b"),
        ({"pictures": []}, "pictures is empty"),
        (
            {
                "preprocessing": Preprocessing(
                    geometry=Geometry(height=32, width=48), pixels=Pixels()
                )
            },
            r"preprocessing makes \(32, 48, 3\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_a_slip(changes, message, export, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "b", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_head_for_another_base_is_a_slip(export, tmp_path):
    with pytest.raises(ValueError, match=r"the base gives \(None, 6\), the head takes \(None, 7\)"):
        export(tmp_path / "b", head=make_head(shape=(7,)))


@pytest.mark.parametrize("label", ["", "two\nlines", "\u2028", "caf\udce9"])
def test_a_label_that_is_no_line_of_text_is_refused(label, export, tmp_path):
    with pytest.raises(OutputError, match="is not one line of printable text; rename the class"):
        export(tmp_path / "b", labels=("a", label, "c"))


def test_the_targets_may_be_called_truth_as_they_once_were(export, pictures, tmp_path):
    targets = [0] * len(pictures)
    one = export(tmp_path / "one", targets=targets)
    other = export(tmp_path / "other", truth=targets)
    assert one.parity["keras_accuracy"] is not None
    assert one == other


def test_an_unknown_keyword_is_refused_before_anything_is_done(export, tmp_path):
    message = r"export_bundle\(\) got an unexpected keyword argument 'quantise'"
    with pytest.raises(TypeError, match=message):
        export(tmp_path / "b", quantise="int8")
    assert list(tmp_path.iterdir()) == []


def test_the_public_names_are_there():
    assert fic_export.export_bundle is export_bundle
    assert all(getattr(fic_export, name) for name in fic_export.__all__)
