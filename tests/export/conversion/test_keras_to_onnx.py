import hashlib
import logging
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from fic.bases import BASES, find_base
from fic.bases.models import build_base
from fic_export.conversion import convert_base, convert_head
from fic_export.conversion.keras_models import split_model
from fic_export.errors import ConversionError
from fic_export.graphs.files import OPSET
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

SMALL = find_base("mobilenet_0.25")

# One of each family that has a trap of its own.
QUICK = (
    "mobilenet_v2_0.35",
    "mobilenet_v3_small",
    "resnet50_v2",
    "efficientnet_b0",
    "densenet121",
)
# Where the last maps of 96 pixels are too small for statistics that mean something.
SIZES = {"inception_v3": 139, "inception_resnet_v2": 139}


pytestmark = pytest.mark.usefixtures("nothing_left_in_memory")


# Of the bases that are converted in segments this one keeps two more.
TRANSPOSES = {"resnet152": 3}


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(base, id=name, marks=() if name in QUICK else pytest.mark.all_bases)
        for name, base in BASES.items()
    ],
)
def test_graph_of_every_base_agrees_with_keras_in_the_optimised_runtime(base):
    size = SIZES.get(base.name, 96)
    images = pictures(8, size)
    pixels = scaled(images, base)
    model = build_base(base, weights="none", size=size)
    assert (model.output_shape[1], model.count_params()) == (base.features, base.parameters)
    randomize_statistics(model, pixels)
    converted = convert_base(model, base.preprocessing(size=size))
    # From the layout of pictures to that of convolutions; a vector comes out.
    assert transposes(converted) == TRANSPOSES.get(base.name, 1)
    assert_agrees(converted, model, images, pixels)


def test_graph_of_the_beginning_of_a_large_base_agrees_with_keras():
    base = find_base("convnext_tiny")  # whose whole takes longer than all the quick ones
    images = pictures(8, 64)
    pixels = scaled(images, base)
    layer = "convnext_tiny_stage_1_block_0_identity"
    model = build_base(base, weights="none", size=64, layer=layer)
    randomize_statistics(model, pixels)
    converted = convert_base(model, base.preprocessing(size=64))
    assert transposes(converted) == 1
    assert_agrees(converted, model, images, pixels)


def assert_agrees(converted, model, images, pixels):
    run = runner(converted)
    expected = model(pixels[:3], training=False).numpy()
    bound = 1e-3 * np.abs(expected).max()
    # A base that gives the same for all pictures would agree with anything.
    assert np.abs(expected[0] - expected[1]).max() > 3 * bound
    np.testing.assert_allclose(run(images[:3]), expected, rtol=0, atol=bound)
    np.testing.assert_allclose(run(images[:1]), expected[:1], rtol=0, atol=bound)


def test_graph_of_a_base_says_what_goes_in_and_what_comes_out():
    graph = convert_base(small_base(), SMALL.preprocessing(size=32)).graph
    assert [described(end) for end in (*graph.input, *graph.output)] == [
        ("image", onnx.TensorProto.UINT8, ["n", 32, 32, 3]),
        ("bottleneck", onnx.TensorProto.FLOAT, ["n", 256]),
    ]


def test_graph_of_a_head_says_what_goes_in_and_what_comes_out():
    graph = convert_head(linear_head()).graph
    assert [described(end) for end in (*graph.input, *graph.output)] == [
        ("bottleneck", onnx.TensorProto.FLOAT, ["n", 8]),
        ("probabilities", onnx.TensorProto.FLOAT, ["n", 5]),
    ]


def test_a_graph_is_valid_onnx_of_one_opset():
    converted = convert_base(small_base(), SMALL.preprocessing(size=32))
    onnx.checker.check_model(converted, full_check=True)
    assert [(opset.domain, opset.version) for opset in converted.opset_import] == [("", OPSET)]


@pytest.mark.parametrize(
    "pixels",
    [
        Pixels(),
        Pixels(scale=(0.1, 0.2, 0.3), offset=(-1.0, 0.5, 2.0)),
        Pixels(scale=(0.1, 0.1, 0.1), offset=(-1.0, -1.0, -1.0)),
        Pixels(channel_order="bgr", offset=(-103.939, -116.779, -123.68)),
    ],
    ids=["raw", "scale_and_offset", "the_same_for_all", "bgr"],
)
def test_pixel_numbers_are_inside_the_graph(pixels):
    import keras

    inputs = keras.Input((4, 6, 3))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    geometry = Geometry(height=4, width=6)
    converted = convert_base(model, Preprocessing(geometry=geometry, pixels=pixels))
    run = runner(converted)
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    ordered = image[..., ::-1] if pixels.channel_order == "bgr" else image
    expected = ordered * np.float32(pixels.scale) + np.float32(pixels.offset)
    np.testing.assert_allclose(run(image), expected, rtol=1e-6, atol=1e-5)
    # One that all channels share is not repeated, which would be slow.
    numbers = [onnx.numpy_helper.to_array(each) for each in converted.graph.initializer]
    assert not any(each.shape == (3,) and len(set(each)) == 1 for each in numbers)


def test_a_base_cut_at_a_feature_map_gives_the_map_in_the_layout_of_keras():
    model = build_base(SMALL, weights="none", size=32, layer="conv_pw_5_relu", pooling="none")
    run = runner(convert_base(model, SMALL.preprocessing(size=32)))
    images = pictures(2, 32)
    expected = model(scaled(images, SMALL)).numpy()
    np.testing.assert_allclose(run(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["functional", "sequential"])
def test_a_head_of_either_form_of_keras_converts(form):
    head = linear_head(form)
    bottlenecks = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    got = runner(convert_head(head))(bottlenecks)
    np.testing.assert_allclose(got, head(bottlenecks), rtol=1e-5, atol=1e-6)


def test_a_head_with_layers_that_must_be_said_otherwise_converts():
    import keras

    head = keras.Sequential(
        [
            keras.Input((9, 9, 8)),
            keras.layers.Conv2D(16, 3, groups=8, padding="same", activation="gelu"),
            keras.layers.Dense(12, activation="relu"),
            keras.layers.ZeroPadding2D(1),
            keras.layers.MaxPooling2D(3, 2),
            keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    maps = np.random.default_rng(0).normal(-2, 1, (3, 9, 9, 8)).astype(np.float32)
    got = runner(convert_head(head))(maps)
    np.testing.assert_allclose(got, head(maps), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_0.25", "mobilenet_v3_small_0.75"])
def test_a_base_converted_in_segments_is_the_base_converted_whole(name, monkeypatch):
    base = find_base(name)
    model = build_base(base, weights="none", size=64)
    randomize_statistics(model, scaled(pictures(8, 64), base))
    graphs = []
    for limit in (1 << 30, model.count_params() // 2):
        monkeypatch.setattr("fic_export.conversion.keras_models._BYTES", limit)
        graphs.append(convert_base(model, base.preprocessing(size=64)))
    whole, joined = (Counter(node.op_type for node in each.graph.node) for each in graphs)
    assert len(split_model(model)) > 1
    assert joined == whole
    images = pictures(2, 64)
    expected, got = (runner(graph)(images) for graph in graphs)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_zero_padding_before_a_maximum_stays_zero_in_the_optimised_runtime():
    import keras

    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(inputs))
    pixels = Pixels(offset=(-300.0, -300.0, -300.0))
    preprocessing = Preprocessing(geometry=Geometry(height=4, width=4), pixels=pixels)
    run = runner(convert_base(keras.Model(inputs, outputs), preprocessing))
    # All pixels are negative, so each window that touches the border has the padding as maximum.
    assert (run(np.full((1, 4, 4, 3), 255, np.uint8))[0, 0] == 0).all()


def test_a_head_of_mixed_precision_is_exported_in_float32():
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = linear_head()
    finally:
        keras.config.set_dtype_policy("float32")
    bottlenecks = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    got = runner(convert_head(head))(bottlenecks)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, head(bottlenecks), atol=5e-3)


def test_normalization_is_folded_into_the_convolutions():
    model = small_base()
    randomize_statistics(model, scaled(pictures(8, 32), SMALL))
    graph = convert_base(model, SMALL.preprocessing(size=32)).graph
    operators = [node.op_type for node in graph.node]
    # Those left are the pixel numbers.
    assert (operators.count("Mul"), operators.count("Add")) == (1, 1)


def test_layout_changes_once_for_the_whole_network_even_with_fresh_weights(tmp_path):
    base = find_base("mobilenet_v3_small")
    model = build_base(base, weights="none", size=64)
    converted = convert_base(model, base.preprocessing(size=64))
    operators = [node.op_type for node in converted.graph.node]
    # None of the squeezed maps is reshaped to the shape that it has.
    assert (operators.count("Transpose"), operators.count("Reshape")) == (1, 0)
    assert transposes(optimised(converted, tmp_path / "optimised.onnx")) == 1


def test_a_map_changes_its_layout_once_more_at_the_end(tmp_path):
    model = build_base(SMALL, weights="none", size=32, layer="conv_pw_5_relu", pooling="none")
    converted = convert_base(model, SMALL.preprocessing(size=32))
    assert transposes(converted) == 2
    last = converted.graph.node[-1]
    assert (last.op_type, last.output[0]) == ("Transpose", "bottleneck")
    assert transposes(optimised(converted, tmp_path / "optimised.onnx")) == 2


def test_a_head_on_maps_changes_the_layout_only_where_a_convolution_asks_for_it():
    import keras

    maps = keras.Input((4, 4, 8))
    flat = keras.Model(maps, keras.layers.Dense(5)(keras.layers.Flatten()(maps)))
    assert transposes(convert_head(flat)) == 0
    convolved = keras.layers.Conv2D(6, 3)(maps)
    pooled = keras.Model(maps, keras.layers.GlobalAveragePooling2D()(convolved))
    assert transposes(convert_head(pooled)) == 1


def test_the_same_model_gives_the_same_bytes_in_another_process():
    code = """
import hashlib
from fic.bases.models import build_base
from fic.bases.table import find_base
from fic_export.conversion.keras_to_onnx import convert_base
base = find_base("mobilenet_0.25")
model = build_base(base, weights="none", size=32)
data = convert_base(model, base.preprocessing(size=32)).SerializeToString()
print(hashlib.sha256(data).hexdigest())
"""
    there = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    for _ in range(2):
        data = convert_base(small_base(), SMALL.preprocessing(size=32)).SerializeToString()
        assert hashlib.sha256(data).hexdigest() == there


def test_the_model_is_not_changed_by_its_conversion():
    base = find_base("mobilenet_v3_small")
    model = build_base(base, weights="none", size=32)
    names = [operation.name for operation in model.operations]
    weights = model.get_weights()
    convert_base(model, base.preprocessing(size=32))
    assert [operation.name for operation in model.operations] == names
    assert all(map(np.array_equal, model.get_weights(), weights))


def test_an_operator_without_an_onnx_form_is_named():
    import keras

    inputs = keras.Input((8,))
    head = keras.Model(inputs, keras.ops.erfinv(inputs))
    with pytest.raises(ConversionError, match="no ONNX form for Erfinv") as caught:
        convert_head(head)
    assert "\n" not in str(caught.value)


def test_a_layer_that_cannot_be_traced_is_one_line_too():
    import keras

    class Stubborn(keras.layers.Layer):
        def compute_output_shape(self, input_shape):
            return input_shape

        def call(self, inputs):
            raise RuntimeError("not today\nnor tomorrow")

    head = keras.Sequential([keras.Input((8,)), Stubborn()])
    with pytest.raises(ConversionError, match=r"cannot be converted: .*tf2onnx") as caught:
        convert_head(head)
    assert "\n" not in str(caught.value)


def test_bytes_of_a_head_do_not_depend_on_what_was_built_before():
    first, second = linear_head(), linear_head()
    second.set_weights(first.get_weights())
    assert first.name != second.name
    assert convert_head(first).SerializeToString() == convert_head(second).SerializeToString()


def test_a_head_with_two_inputs_is_refused():
    import keras

    inputs = [keras.Input((8,)), keras.Input((8,))]
    with pytest.raises(ConversionError, match="2 inputs and 1 output"):
        convert_head(keras.Model(inputs, keras.layers.Add()(inputs)))


def test_a_base_and_a_preprocessing_of_different_sizes_are_a_programming_error():
    with pytest.raises(ValueError, match=r"\(32, 32, 3\).*\(64, 64, 3\)"):
        convert_base(small_base(), SMALL.preprocessing(size=64))


def test_the_converter_is_not_heard_and_its_loggers_are_left_as_they_were(capfd):
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow", "absl")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    model = linear_head()
    capfd.readouterr()
    convert_head(model)
    said = capfd.readouterr()
    # TensorFlow's C++ side (I0000 …) obeys TF_CPP_MIN_LOG_LEVEL alone, which the commands set.
    lines = [line for line in said.err.splitlines() if not re.match(r"[IW]\d{4} ", line)]
    assert (said.out, lines) == ("", [])
    assert [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers] == before


def pictures(count, size):
    """Return soft colour gradients under grain, uint8 (count, size, size, 3), all different."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j][..., None]
    waves = [
        np.sin(2 * np.pi * (rows * a + columns * b + c))
        for a, b, c in random.uniform(-3, 3, (count, 3, 3))
    ]
    images = 127 + 90 * np.stack(waves) + random.normal(0, 20, (count, size, size, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


def scaled(images, base):
    """Return what the Keras model of `base` expects of these images."""
    ordered = images[..., ::-1] if base.pixels.channel_order == "bgr" else images
    return ordered * np.float32(base.pixels.scale) + np.float32(base.pixels.offset)


def randomize_statistics(model, pixels):
    """Give normalizations and biases values that a trained network could have.

    Fresh ones (0 and 1, and 1e-6 in ConvNeXt's LayerScale) hide errors. Moving statistics come
    from the data first, so that activations neither vanish nor explode in deep networks.
    """
    random = np.random.default_rng(0)
    model.trainable = True
    for layer in model.layers:
        for weight in layer.weights:
            if weight is getattr(layer, "gamma", None):  # LayerScale does not name it
                weight.assign(random.uniform(0.5, 1.5, weight.shape) * 0.5)
            elif weight.name in ("beta", "bias"):
                weight.assign(random.normal(0, 0.2, weight.shape))
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    model(pixels, training=True)
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            variance = layer.moving_variance.numpy()
            # A channel that is all but constant would blow up each difference of rounding.
            variance = variance * random.uniform(0.8, 1.2, variance.shape) + 0.1 * variance.mean()
            layer.moving_variance.assign(variance)
            layer.moving_mean.assign_add(random.normal(0, 0.1, variance.shape) * np.sqrt(variance))
    model.trainable = False


def runner(converted):
    """Return a function that runs the graph's only input to its only output, fully optimised."""
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def transposes(model):
    return sum(node.op_type == "Transpose" for node in model.graph.node)


def optimised(converted, file):
    """Return what ONNX Runtime makes of a graph, but for its layouts of a certain processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 4
    data = converted.SerializeToString()
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return onnx.load(file)


def small_base():
    return build_base(SMALL, weights="none", size=32)


def linear_head(form="functional"):
    import keras

    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5, activation="softmax")])
    return head if form == "sequential" else keras.Model(head.inputs[0], head.outputs[0])


def described(end):
    tensor = end.type.tensor_type
    shape = [dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim]
    return end.name, tensor.elem_type, shape
