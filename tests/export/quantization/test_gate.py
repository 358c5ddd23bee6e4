"""When a base in fewer bits is written and when it is refused, and what its bundle says of it."""

import itertools
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from fic_export.bundle import export_bundle, export_head
from fic_export.errors import ParityError
from fic_export.fits.out_of_distribution import FittedScore
from fic_export.options import Bounds
from fic_export.quantization import gate as quantization
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.manifest import Known
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError
from fic_runtime.heads.ood_scores import MaximumProbability

pytestmark = pytest.mark.quantize

LABELS = ("blue", "green", "red")


@pytest.fixture
def seconds(monkeypatch):
    """Return a function that says how long passes of the float32 and of the other base take."""

    def take(float32, other):
        turns = itertools.cycle([float32, other])
        monkeypatch.setattr(quantization, "_seconds", lambda *_: next(turns))

    take(0.004, 0.002)
    return take


@pytest.fixture
def export(models, graph, pictures, preprocessing, seconds):
    """Return a function that exports the two models with an int8 base that counts as faster."""

    def write(out, **changes):
        base_graph = graph.SerializeToString(deterministic=True)
        arguments = {"quantize": "int8", "base_graph": base_graph} | changes
        return export_bundle(
            *models,
            labels=LABELS,
            preprocessing=preprocessing,
            pictures=pictures[:12],
            calibration_files=pictures[12:],
            out=out,
            **{"max_accuracy_drop": 0.2, **arguments},
        )

    return write


def operators(model):
    return {node.op_type for node in model.graph.node}


def test_a_bundle_tells_what_became_of_its_base(export, tmp_path):
    manifest = export(tmp_path / "bundle", targets=[0] * 12)
    found = open_bundle(tmp_path / "bundle").manifest.quantization
    assert found == manifest.quantization
    assert (found["scheme"], found["pictures"], found["calibration_pictures"]) == ("int8", 12, 12)
    assert (found["float32_milliseconds"], found["milliseconds"]) == (4.0, 2.0)
    assert found["speedup"] == 2.0
    assert found["accuracy"] is not None
    assert found["bytes"] == (tmp_path / "bundle/base.onnx").stat().st_size
    assert "| quantization: scheme | int8 |" in (tmp_path / "bundle/README.md").read_text("utf-8")


def test_the_comparison_with_keras_is_that_of_float32(export, tmp_path):
    parity = export(tmp_path / "bundle").parity
    assert parity["largest_difference"] < 1e-4


def test_the_bundle_holds_the_int8_base_and_a_float32_head(export, tmp_path):
    export(tmp_path / "bundle")
    assert "QuantizeLinear" in operators(onnx.load(tmp_path / "bundle/base.onnx"))
    assert "QuantizeLinear" not in operators(onnx.load(tmp_path / "bundle/head.onnx"))
    props = {each.key for each in onnx.load(tmp_path / "bundle/base.onnx").metadata_props}
    assert "preprocessing" in props


def test_a_bundle_passes_its_own_test_with_any_number_of_threads(export, tmp_path):
    export(tmp_path / "bundle")
    for threads in (1, 2, 3):
        result = run_selftest(tmp_path / "bundle", device="cpu", threads=threads)
        assert result.passed
        assert result.bottlenecks <= 1e-3


def test_the_files_but_those_with_speeds_are_the_same_each_time(export, tmp_path):
    for name in ("one", "two"):
        export(tmp_path / name)
    for file in ("base.onnx", "head.onnx", "golden.npz", "labels.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_one_graph_of_both_holds_the_int8_base_too(export, tmp_path):
    export(tmp_path / "bundle", single_graph=True)
    assert "QuantizeLinear" in operators(onnx.load(tmp_path / "bundle/classifier.onnx"))


def test_int8_that_is_slower_is_refused(export, seconds, tmp_path):
    seconds(0.002, 0.004)
    with pytest.raises(ParityError, match=r"4 ms .* 2 ms \(0.50x the speed\)"):
        export(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_fp16_that_is_slower_is_written_and_told(export, seconds, tmp_path):
    seconds(0.002, 0.004)
    found = export(tmp_path / "bundle", quantize="fp16").quantization
    assert (found["speedup"], found["calibration_pictures"]) == (0.5, 0)


def worse(monkeypatch):
    """Let int8 graphs give the bottleneck with the wrong sign, so that the last class is first."""
    import fic_export.quantization.int8

    def other(model, images):
        spoilt = onnx.ModelProto()
        spoilt.CopyFrom(model)
        spoilt.graph.node[-1].output[0] = "right"
        spoilt.graph.node.append(helper.make_node("Neg", ["right"], ["bottleneck"]))
        return spoilt

    monkeypatch.setattr(fic_export.quantization.int8, "quantize_int8", other)


def named(bundle, pictures):
    with Classifier(bundle, device="cpu") as classifier:
        return [LABELS.index(each.label) for each in classifier.predict_batch(pictures)]


def test_a_base_that_loses_accuracy_is_refused(export, pictures, monkeypatch, tmp_path):
    export(tmp_path / "right", quantize=None)
    targets = named(tmp_path / "right", pictures[:12])
    worse(monkeypatch)
    with pytest.raises(ParityError, match=r"instead of 100.00% of 12 pictures") as caught:
        export(tmp_path / "bundle", targets=targets)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "bundle").exists()


def test_where_the_truth_is_not_known_other_classes_count_as_lost(export, monkeypatch, tmp_path):
    worse(monkeypatch)
    with pytest.raises(ParityError, match="names another class for"):
        export(tmp_path / "bundle")
    export(tmp_path / "bundle", max_accuracy_drop=1.0)


def test_an_unknown_scheme_is_a_programmers_error(export, tmp_path):
    with pytest.raises(ValueError, match="quantize is one of int8, fp16"):
        export(tmp_path / "bundle", quantize="int4")


@pytest.mark.parametrize("value", [-1, "wide", 2, True])
def test_a_tolerance_that_makes_no_sense_is_refused(export, tmp_path, value):
    export(tmp_path / "bundle")
    file = tmp_path / "bundle/manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["quantization"]["tolerance"]["bottlenecks"] = value
    file.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BundleError, match="tolerance"):
        run_selftest(tmp_path / "bundle", device="cpu")


def test_a_head_on_a_quantized_base_is_held_to_its_accuracy_and_not_to_keras_s_numbers(
    export, models, pictures, preprocessing, tmp_path
):
    export(tmp_path / "bundle")
    arguments = {
        "labels": LABELS,
        "preprocessing": preprocessing,
        "pictures": pictures[:12],
        "deployed": tmp_path / "bundle",
        "bounds": Bounds(max_difference=0.0),
    }
    with pytest.raises(ParityError, match="on the quantized base the classifier loses"):
        export_head(*models, out=tmp_path / "head", **arguments, max_accuracy_drop=-0.01)
    assert not (tmp_path / "head").exists()
    manifest = export_head(*models, out=tmp_path / "head", **arguments, max_accuracy_drop=0.2)
    assert manifest.quantization == open_bundle(tmp_path / "bundle").manifest.quantization
    assert run_selftest(tmp_path / "bundle", head=tmp_path / "head").passed


@pytest.mark.parametrize("scheme", ["int8", "fp16"])
def test_a_quantized_base_keeps_its_feature_map(scheme, export, pictures, tmp_path):
    exact = export(tmp_path / "float32", quantize=None, with_feature_map=True)
    manifest = export(tmp_path / "smaller", quantize=scheme, with_feature_map=True)
    assert manifest.feature_map == exact.feature_map
    heats = []
    for name in ("float32", "smaller"):
        with Classifier(tmp_path / name) as classifier:
            heats.append(classifier.explain(pictures[0], "red").heat)
    assert heats[0].std() > 0
    assert np.corrcoef(heats[0].ravel(), heats[1].ravel())[0, 1] > 0.95


def test_the_threshold_for_unknown_pictures_is_that_of_the_quantized_base(
    export, pictures, tmp_path
):
    score = MaximumProbability()
    areas = {score.name: {"held_out": 0.5, "foreign": 0.5}}
    known = Known(
        method=score.name,
        threshold=-2.0,
        file=None,
        false_rejection=0.5,
        figures={"auroc": areas, "foreign_pictures": 9, "foreign_rejected": 0.5},
    )
    fitted = FittedScore(score=score, known=known)
    manifest = export(tmp_path / "bundle", known=fitted)
    assert manifest.known.figures["threshold_pictures"] == 12
    with Classifier(tmp_path / "bundle") as classifier:
        answers = classifier.predict_batch(pictures[:12])
    # The seventh of twelve, as the order statistic of split conformal prediction has it.
    assert sum(answer.known for answer in answers) == 7
    assert export(tmp_path / "exact", known=fitted, quantize=None).known == known


FIGURES = quantization.Quantization(
    scheme="int8", calibration_pictures=9, pictures=200, largest_difference=0.1,
    mean_difference=0.01, top_1_agreement=0.97, float32_accuracy=0.9, accuracy=0.89,
    float32_bytes=400, bytes=100, float32_milliseconds=4.0, milliseconds=2.0, speedup=2.0,
    tolerance={},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "limits", "says"),
    [
        ({}, {}, None),
        ({}, {"max_accuracy_drop": 0.009}, r"is right for 89.00% instead of 90.00% of 200"),
        ({"accuracy": None, "float32_accuracy": None}, {}, r"names another class for 3.00% of 200"),
        ({"accuracy": None, "float32_accuracy": None}, {"max_accuracy_drop": 0.03}, None),
        ({}, {"min_accuracy": 0.89}, None),
        ({}, {"min_accuracy": 0.9}, r"is 89.00% \(at least 90.00% is asked for\)"),
        ({"speedup": 1.0}, {}, r"1.00x the speed"),
        ({"speedup": 1.0}, {"purpose": "size"}, None),
        ({"speedup": 0.5, "scheme": "fp16"}, {}, None),
        ({"largest_difference": float("nan")}, {"purpose": "size"}, "are not finite"),
        ({"accuracy": float("nan")}, {}, "is right for"),
    ],
)
def test_each_limit_is_kept_to_the_picture(changes, limits, says):
    wanted = quantization.Limits(**{"max_accuracy_drop": 0.01, **limits})
    figures = replace(FIGURES, **changes)
    if says is None:
        figures.check(wanted)
        return
    with pytest.raises(ParityError, match=says):
        figures.check(wanted)
