import json
import os
import random
import subprocess
import sys

import h5py
import numpy as np
import pytest

from fic.bases import BASES, find_base
from fic.bases.models import build_base, build_rest, weights_digest
from fic.errors import BaseOptionError, WeightsError

SMALL = find_base("mobilenet_0.25")
QUICK = [
    *("mobilenet_0.25", "mobilenet_v2_0.35", "mobilenet_v3_small_0.75", "vgg16", "xception"),
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
]


pytestmark = pytest.mark.usefixtures("nothing_left_in_memory")


# The other ones are looked at where they are converted, as building one takes seconds.
@pytest.mark.parametrize("base", [BASES[name] for name in QUICK], ids=QUICK)
def test_row_and_built_model_agree(base):
    import keras

    model = build_base(base, weights="none", size=base.minimum_size)
    assert model.input_shape == (None, base.minimum_size, base.minimum_size, 3)
    assert (model.output_shape, model.output.dtype) == ((None, base.features), "float32")
    assert model.count_params() == base.parameters
    names = [operation.name for operation in model.operations]
    assert len(set(names)) == len(names)
    assert not model.trainable_weights
    assert isinstance(model, keras.Model)


# MobileNetV3 leaves the size open and names it only in its documentation.
SIZED = [
    base
    for base in BASES.values()
    if base.package is None and not base.constructor.startswith("MobileNetV3")
]


@pytest.mark.parametrize("base", SIZED, ids=lambda base: base.name)
def test_size_of_the_row_is_that_of_keras(base, monkeypatch):
    import keras

    class AskedForSize(Exception):
        pass

    def answer(*args, default_size, **kwargs):
        raise AskedForSize(default_size)

    # Where constructors look up their size: no network needs to be built to know it.
    monkeypatch.setattr("keras.src.applications.imagenet_utils.obtain_input_shape", answer)
    with pytest.raises(AskedForSize) as asked:
        getattr(keras.applications, base.constructor)(weights=None, **dict(base.arguments))
    assert asked.value.args == (base.size,)


def test_one_seed_gives_the_same_weights_in_another_process():
    here = weights_digest(build_base(SMALL, weights="none", size=32, seed=7))
    assert in_another_process("build_base(BASE, weights='none', size=32, seed=7)") == here


def test_another_seed_gives_other_weights():
    digests = {
        weights_digest(build_base(SMALL, weights="none", size=32, seed=seed)) for seed in (0, 1)
    }
    assert len(digests) == 2


def test_building_leaves_the_random_state_and_the_settings_of_the_process_alone():
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        before = random.getstate()
        model = build_base(SMALL, weights="none", size=32)
        assert random.getstate() == before
        assert keras.config.dtype_policy().name == "mixed_float16"
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


def test_layer_names_are_those_of_a_fresh_process_whatever_was_built_before():
    code = (
        "import json, keras; m = keras.applications.InceptionV3(weights=None, include_top=False, "
        "input_shape=(75, 75, 3), pooling='avg'); print(json.dumps([o.name for o in m.operations]))"
    )
    fresh = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    base = find_base("inception_v3")
    for _ in range(2):
        model = build_base(base, weights="none", size=75)
        assert [operation.name for operation in model.operations] == fresh


@pytest.mark.parametrize(
    ("tensor", "pooling", "shape"),
    [
        ("conv_pw_11_relu", "none", (None, 2, 2, 128)),
        ("conv_pw_11_relu", "avg", (None, 128)),
        ("conv_pw_11_relu", "max", (None, 128)),
        ("global_average_pooling2d", "none", (None, 256)),
        (None, "none", (None, 1, 1, 256)),
        (None, "max", (None, 256)),
    ],
)
def test_bottleneck_is_the_named_layer_pooled_as_asked(tensor, pooling, shape):
    model = build_base(SMALL, weights="none", size=32, layer=tensor, pooling=pooling)
    assert model.output_shape == shape


def test_a_cut_base_computes_what_the_whole_base_has_at_that_layer():
    import keras

    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    whole = build_base(SMALL, weights="none", size=32)
    inner = keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output)
    cut = build_base(SMALL, weights="none", size=32, layer="conv_pw_5_relu", pooling="avg")
    expected = inner(pixels).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(cut(pixels), expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_layer_gives_the_nearest_names():
    with pytest.raises(BaseOptionError, match=r"no layer 'conv_pw11_relu'.*conv_pw_11_relu"):
        build_base(SMALL, weights="none", size=32, layer="conv_pw11_relu")


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("activation_1", "conv1_relu"),
        ("activation_31", "conv4_block3_out"),
        ("activation_45", "conv5_block2_2_relu"),
        ("activation_46", "conv5_block2_out"),
    ],
)
def test_numbers_of_old_keras_name_layers_of_resnet50_and_are_translated(old, today, caplog):
    model = build_base(find_base("resnet50"), weights="none", size=32, layer=old, pooling="none")
    assert model.layers[-1].name == today
    assert f"{old} is called {today} today" in caplog.text


def test_there_is_no_activation_50_in_resnet50():
    with pytest.raises(BaseOptionError, match="no layer 'activation_50'"):
        build_base(find_base("resnet50"), weights="none", size=32, layer="activation_50")


def test_too_small_an_image_size_names_the_smallest():
    with pytest.raises(BaseOptionError, match=r"size of 64 is too small.*75"):
        build_base(find_base("inception_v3"), weights="none", size=64)


def test_digest_changes_with_a_single_weight():
    model = build_base(SMALL, weights="none", size=32)
    before = weights_digest(model)
    weight = model.layers[1].weights[0]
    weight.assign(weight.numpy() + np.eye(1, weight.shape[-1], dtype=np.float32) * 1e-7)
    assert weights_digest(model) != before


def test_digest_does_not_depend_on_the_numbers_of_weights_without_a_name():
    import keras

    class Scale(keras.layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

        def call(self, inputs):
            return inputs * self.factor

    first, second = (keras.Sequential([keras.Input((4,)), Scale()]) for _ in range(2))
    assert first.weights[0].name != second.weights[0].name
    assert weights_digest(first) == weights_digest(second)


@pytest.mark.parametrize("ending", ["h5", "weights.h5", "keras"])
@pytest.mark.parametrize("classifier", [False, True], ids=["without_classifier", "with_classifier"])
def test_weights_come_from_a_file(tmp_path, ending, classifier):
    path = tmp_path / f"net.{ending}"
    source = save_network(path, classifier=classifier)
    model = build_base(SMALL, weights=str(path), size=32)
    expected = source.get_weights()[: len(model.get_weights())]
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_come_from_a_file_whose_list_of_layers_keras_had_to_split(tmp_path):
    save_network(tmp_path / "whole.h5", classifier=False)
    expected = weights_digest(build_base(SMALL, weights=str(tmp_path / "whole.h5"), size=32))
    path = tmp_path / "split.h5"
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(path, "w") as split:
        group = whole["model_weights"]
        for name in group:
            whole.copy(group[name], split)
        names = group.attrs["layer_names"]
        split.attrs["layer_names0"], split.attrs["layer_names1"] = names[:40], names[40:]
    assert weights_digest(build_base(SMALL, weights=str(path), size=32)) == expected


@pytest.mark.parametrize("ending", ["h5", "weights.h5", "keras"])
def test_weights_of_another_architecture_are_refused(tmp_path, ending):
    path = tmp_path / f"net.{ending}"
    save_network(path, classifier=False)
    with pytest.raises(WeightsError, match=r"not weights of mobilenet_0\.5 .*MobileNet") as caught:
        build_base(find_base("mobilenet_0.5"), weights=str(path), size=32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["h5", "weights.h5", "keras", "txt"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, ending):
    path = tmp_path / f"net.{ending}"
    path.write_bytes(b"not weights at all" * 100)
    with pytest.raises(WeightsError, match="not weights of") as caught:
        build_base(SMALL, weights=str(path), size=32)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_what_may_be_given(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.h5: no such file; --weights takes imagenet"):
        build_base(SMALL, weights=str(tmp_path / "gone.h5"), size=32)


def test_released_efficientnet_files_get_the_normalization_that_their_weights_need(tmp_path):
    base = find_base("efficientnet_b0")
    deviation = np.float32([0.229, 0.224, 0.225])
    source = build_base(base, weights="none", size=32)
    mean, count = np.float32([0.485, 0.456, 0.406]), np.int32(0)
    source.get_layer("normalization").set_weights([mean, deviation, count])
    source.save_weights(tmp_path / "b0.weights.h5")
    model = build_base(base, weights=str(tmp_path / "b0.weights.h5"), size=32)
    _, variance, _ = model.get_layer("normalization").get_weights()
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-6)


def test_imagenet_weights_are_taken_from_the_folder_of_keras(tmp_path):
    path = tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir()
    save_network(path, classifier=False)
    expected = weights_digest(build_base(SMALL, weights=str(path), size=32))
    # 32 has no weights of its own: Keras takes those of 224.
    call = "build_base(BASE, weights='imagenet', size=32)"
    assert in_another_process(call, KERAS_HOME=str(tmp_path)) == expected


@pytest.mark.parametrize("cached", [False, True], ids=["nothing_cached", "broken_file_cached"])
def test_imagenet_weights_that_cannot_be_had_are_one_line_with_the_ways_out(tmp_path, cached):
    if cached:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5").write_bytes(b"half a download")
    said = in_another_process(
        "build_base(BASE, weights='imagenet', size=224)",
        KERAS_HOME=str(tmp_path),
        https_proxy="http://127.0.0.1:9",
    )
    assert said.startswith("WeightsError mobilenet_0.25: its ImageNet weights could not be loaded")
    assert "--weights FILE or --weights none" in said
    assert "\n" not in said


def test_a_real_file_of_keras_2_is_read_as_it_stands(shared):
    path = shared / "weights" / "mobilenet_v2_1.0_224_dequantized_from_tf2_ptq_no_top.h5"
    model = build_base(find_base("mobilenet_v2"), weights=str(path))
    with h5py.File(path) as file:
        stored: list[np.ndarray] = []
        file.visititems(lambda _, item: stored.append(item[()]) if hasattr(item, "dtype") else None)
    ours = {array.tobytes() for array in model.get_weights()}
    assert ours == {array.tobytes() for array in stored}


def test_a_real_file_with_its_classifier_gives_the_weights_of_the_file_without(shared):
    models = shared / "keras_home" / "models"
    base = find_base("mobilenet_0.75")
    with_top = build_base(base, weights=str(models / "mobilenet_7_5_224_tf.h5"))
    without = build_base(base, weights=str(models / "mobilenet_7_5_224_tf_no_top.h5"))
    assert weights_digest(with_top) == weights_digest(without)


def save_network(path, *, classifier):
    """Save a random MobileNet 0.25, as Keras 2 did (.h5) or as Keras 3 does."""
    import keras

    model = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=classifier, input_shape=(32, 32, 3), classes=7
    )
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return model


def in_another_process(call, **environment):
    """Return the digest of the base that `call` builds, or the name and text of its error."""
    code = f"""
from fic.bases.models import build_base, build_rest, weights_digest
from fic.bases.table import find_base
from fic.errors import FicError
BASE = find_base({SMALL.name!r})
try:
    print(weights_digest({call}))
except FicError as error:
    print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, text=True, env=os.environ | environment).strip()


@pytest.mark.parametrize(
    ("name", "inside", "following"),
    [
        ("mobilenet_v2_0.35", "block_14_expand_relu", "block_14_add"),
        ("resnet50", "conv4_block3_1_relu", "conv4_block3_add"),
    ],
)
def test_a_cut_inside_a_branch_leaves_no_rest_and_the_next_place_is_named(name, inside, following):
    with pytest.raises(BaseOptionError, match=f"needs more than the output.* is {following}$"):
        build_rest(find_base(name), inside, weights="none", size=32)


def test_the_rest_of_a_base_may_be_trained_but_for_its_normalisation():
    rest = build_rest(SMALL, "conv_pw_11_relu", weights="none", size=32)
    trainable = {type(layer).__name__ for layer in rest.layers if layer.trainable_weights}
    assert trainable == {"Conv2D", "DepthwiseConv2D"}
    assert rest.input_shape == (None, 2, 2, 128)
