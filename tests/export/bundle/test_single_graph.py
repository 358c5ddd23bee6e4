"""One graph from picture to probabilities, which says what the two graphs say."""

import ast
import json

import numpy as np
import onnx
import onnxruntime
import pytest

import fic_export
from fic_export.bundle.single_graph import SINGLE_FILE, fuse, write_single_graph
from fic_export.errors import ConversionError, ParityError
from fic_export.graphs.files import at_opset
from fic_runtime.bundle import open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing
from tests.export.conftest import known_score, make_base, make_head

# Quotes, and what must be escaped in one of the notations.
LABELS = ("Gänseblümchen", 'it\'s "tulip"', "バラ\\の花 🌹")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=24, width=32),
    pixels=Pixels(channel_order="bgr", scale=(0.02, 0.03, 0.04), offset=(-1.0, -2.0, -3.0)),
)


def models(*, pooled):
    base = make_base((24, 32, 3), pooled=pooled)
    return base, make_head(base.output_shape[1:], classes=len(LABELS))


@pytest.fixture(scope="module", params=[True, False], ids=["vector", "map"])
def bundle(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("single") / "bundle"
    fic_export.export_bundle(
        *models(pooled=request.param),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        out=out,
        single_graph=True,
    )
    return out


def session(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_the_fused_graph_says_what_the_classifier_says(bundle):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    (found,) = session(bundle / SINGLE_FILE).run(None, {"image": pixels})
    with Classifier(bundle, device="cpu") as classifier:
        _, expected = classifier.run(pixels)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_it_has_one_input_and_one_output_of_any_batch_and_no_operator_of_its_own(bundle):
    model = onnx.load(bundle / SINGLE_FILE)
    onnx.checker.check_model(model, full_check=True)
    ends = (*model.graph.input, *model.graph.output)
    assert [end.name for end in ends] == ["image", "probabilities"]
    assert all(end.type.tensor_type.shape.dim[0].dim_param == "n" for end in ends)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    parts = [onnx.load(bundle / name).graph for name in ("base.onnx", "head.onnx")]
    assert len(model.graph.node) == sum(len(part.node) for part in parts)


def test_the_manifest_names_it_with_its_digest_and_its_difference(bundle):
    manifest = open_bundle(bundle).manifest
    entry = manifest.single_graph
    assert entry["file"] == SINGLE_FILE
    assert SINGLE_FILE in manifest.files
    assert (entry["input"]["name"], entry["output"]["name"]) == ("image", "probabilities")
    assert entry["output"]["shape"] == [None, 3]
    assert entry["pictures"] == 32
    assert entry["largest_difference"] < 1e-6


def test_other_tools_find_labels_and_preprocessing_under_their_names(bundle):
    said = session(bundle / SINGLE_FILE).get_modelmeta().custom_metadata_map
    # As Ultralytics' loader reads them.
    assert ast.literal_eval(said["names"]) == dict(enumerate(LABELS))
    assert ast.literal_eval(said["imgsz"]) == [24, 32]
    assert said["task"] == "classify"
    # As ONNX's MetadataProps.md has them: of the input, not of what the graph makes of it.
    assert said["Image.BitmapPixelFormat"] == "Rgb8"
    assert said["Image.ColorSpaceGamma"] == "SRGB"
    assert said["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert tuple(json.loads(said["labels"])) == LABELS
    assert Preprocessing.from_dict(json.loads(said["preprocessing"])) == PREPROCESSING


def test_each_of_the_two_graphs_says_its_part(bundle):
    base, head = (
        session(bundle / name).get_modelmeta().custom_metadata_map.keys()
        for name in ("base.onnx", "head.onnx")
    )
    assert {"preprocessing", "imgsz", "Image.BitmapPixelFormat"} <= base
    assert {"labels", "names", "task"} == head
    assert not base & head


def test_the_card_tells_how_to_run_it(bundle):
    assert "`classifier.onnx` takes the same `image`" in (bundle / "README.md").read_text("utf-8")


def test_without_being_asked_for_it_is_not_there(tmp_path):
    manifest = fic_export.export_bundle(
        *models(pooled=True), labels=LABELS, preprocessing=PREPROCESSING, out=tmp_path / "b"
    )
    assert manifest.single_graph == {}
    assert not (tmp_path / "b" / SINGLE_FILE).exists()
    assert SINGLE_FILE not in (tmp_path / "b/README.md").read_text("utf-8")


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_fused_graph_that_differs_is_refused_and_nothing_is_written(value, tmp_path, monkeypatch):
    def write_another(folder, manifest, **options):
        write_single_graph(folder, manifest, **options)
        model = onnx.load(folder / SINGLE_FILE)
        *_, bias = (each for each in model.graph.initializer if list(each.dims) == [3])
        other = np.array([0, value, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(other, bias.name))
        onnx.save(model, folder / SINGLE_FILE)

    monkeypatch.setattr("fic_export.bundle.export.write_single_graph", write_another)
    with pytest.raises(ParityError, match=r"classifier\.onnx differs from the two graphs by"):
        fic_export.export_bundle(
            *models(pooled=False),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            out=tmp_path / "b",
            single_graph=True,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_head_of_an_older_operator_set_is_brought_to_that_of_the_base(bundle):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    answers = []
    for version in (17, 19):
        base, head = (onnx.load(bundle / name) for name in ("base.onnx", "head.onnx"))
        fused = fuse(at_opset(base, version), head)
        assert fused.opset_import[0].version == version
        whole = onnxruntime.InferenceSession(fused.SerializeToString())
        answers += whole.run(None, {"image": pixels})
    np.testing.assert_array_equal(*answers)


def test_graphs_of_two_operator_sets_are_refused(bundle):
    base, head = (onnx.load(bundle / name) for name in ("base.onnx", "head.onnx"))
    for model, version in ((base, 3), (head, 4)):
        model.opset_import.add(domain="ai.onnx.ml", version=version)
    with pytest.raises(ConversionError, match="different operator sets"):
        fuse(base, head)


def test_it_takes_float_pixels_for_engines_that_know_no_uint8(tmp_path):
    bundle = tmp_path / "bundle"
    manifest = fic_export.export_bundle(
        *models(pooled=True),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        out=bundle,
        single_graph=True,
        float_input=True,
    )
    assert manifest.single_graph["input"]["dtype"] == "float32"
    graph = onnx.load(bundle / SINGLE_FILE).graph
    assert not {"Cast", "Pad"} & {node.op_type for node in graph.node}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    (probabilities,) = session(bundle / SINGLE_FILE).run(None, {"image": pixels.astype("float32")})
    with Classifier(bundle, device="cpu") as classifier:
        expected = [each.probabilities for each in classifier.predict_batch(pixels)]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("pooled", [True, False], ids=["vector", "map"])
def test_it_gives_the_score_and_the_bottleneck_too(pooled, tmp_path):
    bundle = tmp_path / "bundle"
    manifest = fic_export.export_bundle(
        *models(pooled=pooled),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        out=bundle,
        single_graph=True,
        with_bottleneck=True,
        ood_score=known_score(),
    )
    onnx.checker.check_model(onnx.load(bundle / SINGLE_FILE), full_check=True)
    assert manifest.single_graph["further_outputs"] == ["ood_score", "bottleneck"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    whole = session(bundle / SINGLE_FILE)
    probabilities, scores, bottlenecks = whole.run(None, {"image": pixels})
    with Classifier(bundle, device="cpu") as classifier:
        expected = classifier.predict_batch(pixels)
        np.testing.assert_allclose(bottlenecks, classifier.bottlenecks(pixels), atol=1e-5)
    assert scores.shape == (5, 1)
    np.testing.assert_allclose(scores[:, 0], [each.ood_score for each in expected], atol=1e-5)
    np.testing.assert_allclose(probabilities, [each.probabilities for each in expected], atol=1e-6)
    threshold = float(whole.get_modelmeta().custom_metadata_map["ood_threshold"])
    assert [bool(score <= threshold) for score in scores[:, 0]] == [each.known for each in expected]


@pytest.mark.parametrize("shift", [4e-4, 4e-3])
def test_the_score_may_differ_by_the_rounding_of_variances_and_no_more(
    shift, tmp_path, monkeypatch
):
    def write_another(folder, manifest, **options):
        write_single_graph(folder, manifest, **options)
        graph = (model := onnx.load(folder / SINGLE_FILE)).graph
        (maker,) = (node for node in graph.node if "ood_score" in node.output)
        maker.output[0] = "unshifted"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(shift, np.float32), "shift"))
        graph.node.append(onnx.helper.make_node("Add", ["unshifted", "shift"], ["ood_score"]))
        onnx.save(model, folder / SINGLE_FILE)

    def export():
        fic_export.export_bundle(
            *models(pooled=True),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            out=tmp_path / "bundle",
            single_graph=True,
            ood_score=known_score(),
        )

    monkeypatch.setattr("fic_export.bundle.export.write_single_graph", write_another)
    if shift < 1e-3:
        export()
    else:
        with pytest.raises(ParityError, match=r"0\.004 in ood_score \(at most 0\.001 is allowed\)"):
            export()
