"""A base in fewer bits: what is in it, and when it is refused."""

import itertools
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fic_export.bundle import export_bundle, export_head
from fic_export.bundle.parity import Bounds
from fic_export.conversion import convert_base
from fic_export.errors import ConversionError, ParityError
from fic_export.fits.out_of_distribution import FittedScore
from fic_export.quantization import gate as quantization
from fic_export.quantization.fp16 import convert_to_half
from fic_export.quantization.int8 import correct_biases, fold_pads, quantize_int8, rounded
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.manifest import Known
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError
from fic_runtime.graphs.graph import Graph
from fic_runtime.heads.ood_scores import MaximumProbability
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing
from tests.export.conftest import draw_pictures

pytestmark = pytest.mark.quantize

LABELS = ("blue", "green", "red")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=32, width=32),
    pixels=Pixels(scale=(1 / 128,) * 3, offset=(-1.0,) * 3),
)


@pytest.fixture(scope="module")
def models():
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    layer = keras.layers.ZeroPadding2D(1)(image)
    layer = keras.layers.Conv2D(8, 3, strides=2, activation="relu6")(layer)
    before = layer
    layer = keras.layers.DepthwiseConv2D(3, padding="same")(layer)
    layer = keras.layers.Add()([layer, before])
    layer = keras.layers.Conv2D(16, 1, activation="relu")(layer)
    base = keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer), name="base")
    bottleneck = keras.Input((16,))
    dense = keras.layers.Dense(3, activation="softmax")
    head = keras.Model(bottleneck, dense(bottleneck), name="head")
    # So that the probabilities say something about the bottleneck.
    dense.set_weights([10 * dense.get_weights()[0], np.zeros(3, np.float32)])
    return base, head


@pytest.fixture(scope="module")
def graph(models):
    return convert_base(models[0], PREPROCESSING)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 24)


@pytest.fixture(scope="module")
def images(pictures):
    return [load_image(file, PREPROCESSING.geometry) for file in pictures[12:]]


@pytest.fixture(scope="module")
def int8(graph, images):
    return quantize_int8(graph, images)


@pytest.fixture
def seconds(monkeypatch):
    """Return a function that says how long passes of the float32 and of the other base take."""

    def take(float32, other):
        turns = itertools.cycle([float32, other])
        monkeypatch.setattr(quantization, "_seconds", lambda *_: next(turns))

    take(0.004, 0.002)
    return take


@pytest.fixture
def export(models, graph, pictures, seconds):
    """Return a function that exports the two models with an int8 base that counts as faster."""

    def write(out, **changes):
        base_graph = graph.SerializeToString(deterministic=True)
        arguments = {"quantize": "int8", "base_graph": base_graph} | changes
        return export_bundle(
            *models,
            labels=LABELS,
            preprocessing=PREPROCESSING,
            pictures=pictures[:12],
            calibration_files=pictures[12:],
            out=out,
            **{"max_accuracy_drop": 0.2, **arguments},
        )

    return write


def operators(model):
    return {node.op_type for node in model.graph.node}


def run(model, images):
    return Graph(model.SerializeToString(), device="cpu").run(np.stack(images))


def test_weights_of_int8_are_int8_with_a_scale_for_each_channel(int8):
    constants = {tensor.name: tensor for tensor in int8.graph.initializer}
    readers = {node.output[0]: node for node in int8.graph.node}
    for node in int8.graph.node:
        if node.op_type == "Conv":
            kernel, scale = (constants[name] for name in readers[node.input[1]].input[:2])
            assert kernel.data_type == TensorProto.INT8
            assert list(scale.dims) == [kernel.dims[0]]
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators(int8)


def test_what_flows_between_the_layers_is_uint8(int8):
    constants = {tensor.name: tensor for tensor in int8.graph.initializer}
    zeros = [
        constants[node.input[2]] for node in int8.graph.node if node.op_type == "QuantizeLinear"
    ]
    assert {zero.data_type for zero in zeros} == {TensorProto.UINT8}


def test_the_pixel_arithmetic_stays_float32(int8):
    before = []
    for node in int8.graph.node:
        if node.op_type == "QuantizeLinear":
            break
        before.append(node.op_type)
    assert before[:3] == ["Cast", "Mul", "Add"]


@pytest.mark.parametrize("scheme", ["int8", "fp16"])
def test_ends_and_operator_sets_are_those_of_float32(graph, images, scheme):
    smaller = quantize_int8(graph, images) if scheme == "int8" else convert_to_half(graph)
    onnx.checker.check_model(smaller, full_check=True)
    for ends in ("input", "output"):
        (ours,), (theirs,) = (getattr(model.graph, ends) for model in (smaller, graph))
        assert (ours.name, ours.type.tensor_type.elem_type) == (
            theirs.name,
            theirs.type.tensor_type.elem_type,
        )
    assert [each.domain for each in smaller.opset_import] == [""]


@pytest.mark.parametrize(("scheme", "bound"), [("int8", 0.05), ("fp16", 0.005)])
def test_a_base_in_fewer_bits_gives_nearly_the_same(graph, images, scheme, bound):
    smaller = quantize_int8(graph, images) if scheme == "int8" else convert_to_half(graph)
    expected, found = run(graph, images), run(smaller, images)
    assert 0 < np.abs(found - expected).max() < bound * np.abs(expected).max()


def test_weights_of_fp16_are_float16_and_pixels_are_not(graph):
    half = convert_to_half(graph)
    kinds = {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {TensorProto.FLOAT16}
    scale = next(node for node in half.graph.node if node.op_type == "Mul").input[1]
    assert {t.data_type for t in half.graph.initializer if t.name == scale} == {TensorProto.FLOAT}


@pytest.mark.parametrize("scheme", ["int8", "fp16"])
def test_the_same_base_and_pictures_give_the_same_bytes(graph, images, scheme):
    def write():
        smaller = quantize_int8(graph, images) if scheme == "int8" else convert_to_half(graph)
        return smaller.SerializeToString(deterministic=True)

    assert write() == write()


def test_int8_wants_pictures_and_something_to_quantize(graph, images):
    with pytest.raises(ValueError, match="images is empty"):
        quantize_int8(graph, [])
    nothing = onnx.ModelProto()
    nothing.CopyFrom(graph)
    del nothing.graph.node[1:]
    with pytest.raises(ConversionError, match="no convolution"):
        quantize_int8(nothing, images)


def convolution(*, pad_mode="constant", pad_value=0.0):
    """Return a graph: pad by one on each side, then convolve 2 channels by 3 kernels."""
    random = np.random.default_rng(0)
    constants = {
        "kernel": random.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "sides": np.array([0, 0, 1, 2, 0, 0, 3, 4], np.int64),
        "value": np.array(pad_value, np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["x", "sides", "value"], ["padded"], mode=pad_mode, name="pad"),
        helper.make_node("Conv", ["padded", "kernel"], ["y"], name="conv"),
    ]
    ends = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3, None, None]),
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def evaluate(model, x):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def test_zeros_around_a_picture_move_into_the_convolution():
    model = convolution()
    x = np.random.default_rng(1).normal(size=(1, 2, 8, 8)).astype(np.float32)
    expected = evaluate(model, x)
    fold_pads(model.graph)
    assert operators(model) == {"Conv"}
    np.testing.assert_allclose(evaluate(model, x), expected, atol=1e-5)


@pytest.mark.parametrize("other", [{"pad_mode": "reflect"}, {"pad_value": 1.0}])
def test_padding_that_is_not_zero_stays(other):
    model = convolution(**other)
    fold_pads(model.graph)
    assert operators(model) == {"Pad", "Conv"}


def pool(*, above):
    """Return a graph as the export leaves it: `above`, pad, the guard of the pool, pool."""
    constants = {
        "sides": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "zero": np.array(0, np.float32),
        "lowest": np.array(np.finfo(np.float32).min, np.float32),
    }
    nodes = [
        helper.make_node(above, ["x"], ["above"]),
        helper.make_node("Pad", ["above", "sides", "zero"], ["padded"]),
        helper.make_node("Max", ["padded", "lowest"], ["guarded"]),
        helper.make_node("MaxPool", ["guarded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    ends = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2, None, None]),
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_zeros_after_a_relu_move_into_the_pool():
    model = pool(above="Relu")
    x = np.random.default_rng(1).normal(-1, 1, size=(1, 2, 8, 8)).astype(np.float32)
    expected = evaluate(model, x)
    fold_pads(model.graph)
    assert operators(model) == {"Relu", "MaxPool"}
    np.testing.assert_array_equal(evaluate(model, x), expected)


def test_zeros_around_what_may_be_negative_stay_outside_the_pool():
    model = pool(above="Neg")
    fold_pads(model.graph)
    assert operators(model) == {"Neg", "Pad", "Max", "MaxPool"}


@pytest.mark.parametrize("bias", [True, False])
def test_a_corrected_bias_takes_back_what_rounded_weights_shift(bias):
    """Exactly so for a kernel of one pixel, in groups, without a border."""
    random = np.random.default_rng(0)
    constants = {"kernel": random.normal(size=(6, 2, 1, 1)).astype(np.float32)}
    if bias:
        constants["bias"] = random.normal(size=6).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", *constants], ["y"], name="conv", group=2)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4, 5, 5])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 6, 5, 5])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    x = random.normal(2, 1, size=(7, 4, 5, 5)).astype(np.float32)
    expected = evaluate(model, x).mean(axis=(0, 2, 3))
    correct_biases(model, x, levels=3)
    coarse = rounded(constants["kernel"], 3).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(coarse, "kernel"))
    np.testing.assert_allclose(evaluate(model, x).mean(axis=(0, 2, 3)), expected, atol=1e-5)


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


def largest_products():
    """Return an int8 convolution whose products have the largest sums that there are."""
    names = ["image", "seen", "exact", "weight", "kernel", "sums", "stored", "bottleneck"]
    image, seen, exact, weight, kernel, sums, stored, bottleneck = names
    nodes = [
        helper.make_node("Cast", [image], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["planes", "one", "zero"], [seen]),
        helper.make_node("DequantizeLinear", [seen, "one", "zero"], [exact]),
        helper.make_node("DequantizeLinear", [weight, "one", "none"], [kernel]),
        helper.make_node("Conv", [exact, kernel], [sums]),
        helper.make_node("QuantizeLinear", [sums, "step", "zero"], [stored]),
        helper.make_node("DequantizeLinear", [stored, "step", "zero"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [bottleneck]),
    ]
    constants = {
        "one": np.float32(1),
        "step": np.float32(32 * 255 * 127 / 255),
        "zero": np.uint8(0),
        "none": np.int8(0),
        weight: np.full((16, 32, 1, 1), 127, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "largest",
        [helper.make_tensor_value_info(image, TensorProto.UINT8, ["n", 4, 4, 32])],
        [helper.make_tensor_value_info(bottleneck, TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_no_processor_lets_the_sums_of_int8_overflow():
    """Those of x86 without VNNI would, if the runtime did not ask ONNX Runtime for other sums."""
    white = np.full((1, 4, 4, 32), 255, np.uint8)
    found = Graph(largest_products(), device="cpu", threads=1).run(white)
    np.testing.assert_allclose(found, 32 * 255 * 127, rtol=0.01)


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
    export, models, pictures, tmp_path
):
    export(tmp_path / "bundle")
    arguments = {
        "labels": LABELS,
        "preprocessing": PREPROCESSING,
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
