"""Any two Keras models become a bundle by one call, whoever trained them and without pictures."""

import numpy as np
import pytest

import fic_export
from fic_export.drawn_pictures import drawn_files
from fic_export.errors import ParityError
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

LABELS = ("cat", "dog", "neither")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=24, width=32),
    pixels=Pixels(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3),
)


def layers(kind):
    import keras

    if kind == "base":
        return [
            keras.layers.Conv2D(5, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    return [keras.layers.Dense(7, activation="relu"), keras.layers.Dense(3, activation="softmax")]


def functional(kind, shape):
    import keras

    inputs = tensor = keras.Input(shape)
    for layer in layers(kind):
        tensor = layer(tensor)
    return keras.Model(inputs, tensor, name=f"my-own.{kind}")


def sequential(kind, shape):
    import keras

    return keras.Sequential([keras.Input(shape), *layers(kind)])


def called_sequential(kind, shape):
    import keras

    model = keras.Sequential(layers(kind))
    model(np.zeros((1, *shape), np.float32))
    return model


@pytest.mark.parametrize("form", [functional, sequential, called_sequential])
def test_two_models_labels_and_preprocessing_are_enough(form, tmp_path):
    base, head = form("base", (24, 32, 3)), form("head", (5,))
    manifest = fic_export.export_bundle(
        base, head, labels=LABELS, preprocessing=PREPROCESSING, out=tmp_path / "bundle"
    )
    assert (manifest.parity["source"], manifest.parity["pictures"]) == ("drawn", 32)
    assert manifest.parity["largest_difference"] < 1e-5
    assert run_selftest(tmp_path / "bundle", device="cpu").passed
    picture = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    inputs = load_image(picture, PREPROCESSING.geometry)[None] / np.float32(127.5) - 1
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        found = classifier.predict(picture).probabilities
    np.testing.assert_allclose(found, head(base(inputs))[0], atol=1e-5)


def test_a_bundle_that_differs_on_drawn_pictures_is_refused(tmp_path):
    base, other = functional("base", (24, 32, 3)), functional("base", (24, 32, 3))
    graph = fic_export.convert_base(other, PREPROCESSING).SerializeToString()
    with pytest.raises(ParityError, match=r"differ from Keras by .* on drawn-\d\d"):
        fic_export.export_bundle(
            base,
            functional("head", (5,)),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            out=tmp_path / "bundle",
            base_graph=graph,
            bounds=fic_export.Bounds(max_difference=1e-4),
        )
    assert list(tmp_path.iterdir()) == []


def test_drawn_pictures_are_the_same_each_time_shrink_and_grow_and_leave_nothing():
    geometry = PREPROCESSING.geometry
    with drawn_files(geometry) as one, drawn_files(geometry) as other:
        assert [each.read_bytes() for each in one] == [each.read_bytes() for each in other]
        files = one[:]
    assert not any(each.exists() for each in files)


def test_a_model_that_does_not_say_its_input_is_a_slip(tmp_path):
    import keras

    with pytest.raises(ValueError, match="the head, mine, does not say its input"):
        fic_export.export_bundle(
            functional("base", (24, 32, 3)),
            keras.Sequential(layers("head"), name="mine"),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            out=tmp_path / "bundle",
        )


def test_the_truth_of_drawn_pictures_is_not_known(tmp_path):
    with pytest.raises(ValueError, match="1 targets do not go with 0 pictures"):
        fic_export.export_bundle(
            functional("base", (24, 32, 3)),
            functional("head", (5,)),
            labels=LABELS,
            preprocessing=PREPROCESSING,
            targets=[0],
            out=tmp_path / "bundle",
        )
