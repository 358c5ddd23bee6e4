"""Feature maps and linear heads: together they are the head, or the export refuses."""

from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import onnx
import pytest

from fic_export import ConversionError, ParityError, export_bundle, export_head
from fic_export.bundle.explanations import linear_head
from fic_runtime import BundleError, Classifier
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

LABELS = ("one", "two", "three")
NUMBERS = Preprocessing(geometry=Geometry(height=24, width=32), pixels=Pixels(scale=(1 / 255,) * 3))


@pytest.fixture(autouse=True)
def seed() -> None:
    keras.utils.set_random_seed(11)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        cv2.imwrite(str(file), random.integers(0, 256, (30, 30, 3), dtype=np.uint8))
    return files


def convolutions(image: Any) -> Any:
    layer = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    return keras.layers.Conv2D(6, 3, strides=2, activation="relu")(layer)


def make_base(*layers: Any) -> keras.Model:
    image = keras.Input((24, 32, 3))
    output = convolutions(image)
    for layer in layers:
        output = layer(output)
    return keras.Model(image, output, name="small")


def make_head(shape: tuple[int, ...], *layers: Any) -> keras.Model:
    bottleneck = keras.Input(shape)
    output = bottleneck
    for layer in layers:
        output = layer(output)
    return keras.Model(bottleneck, output)


def probabilities(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def softmax() -> Any:
    return keras.layers.Dense(3, activation="softmax", bias_initializer="random_normal")


def busy_normalization() -> Any:
    return keras.layers.BatchNormalization(
        beta_initializer="random_normal",
        gamma_initializer="random_normal",
        moving_mean_initializer="random_normal",
    )


def standardisation() -> Any:
    return keras.layers.Normalization(mean=np.arange(6), variance=np.arange(6) / 3 + 0.1)


LINEAR = {
    "a dense layer": lambda: [softmax()],
    "fic's own": lambda: [keras.layers.Rescaling(0.3), standardisation(), softmax()],
    "an offset": lambda: [keras.layers.Rescaling(2.0, 0.5), softmax()],
    "batch normalization": lambda: [busy_normalization(), keras.layers.Dropout(0.5), softmax()],
    "two dense layers": lambda: [keras.layers.Dense(4), standardisation_of(4), softmax()],
    "no bias": lambda: [keras.layers.Dense(3, use_bias=False), keras.layers.Softmax()],
    "an activation": lambda: [keras.layers.Dense(3), keras.layers.Activation("softmax")],
}


def standardisation_of(features: int) -> Any:
    return keras.layers.Normalization(mean=np.ones(features), variance=np.ones(features) * 2)


@pytest.mark.parametrize("kind", LINEAR)
def test_the_folded_head_does_what_the_head_of_keras_does(kind: str) -> None:
    head = make_head((6,), *LINEAR[kind]())
    features = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    weights = linear_head(head)
    found = probabilities(features @ weights.kernel + weights.bias)
    np.testing.assert_allclose(found, head.predict_on_batch(features), atol=1e-5)
    np.testing.assert_allclose(weights.kernel.sum(axis=1), 0, atol=1e-5 * abs(weights.kernel).max())


def test_the_linear_head_of_a_sequential_model_is_found_too() -> None:
    head = keras.Sequential([keras.Input((6,)), softmax()])
    assert linear_head(head).kernel.shape == (6, 3)


def branching() -> keras.Model:
    bottleneck = keras.Input((6,))
    sides = [keras.layers.Dense(4)(bottleneck) for _ in range(2)]
    return keras.Model(bottleneck, softmax()(keras.layers.Add()(sides)))


OTHERS = {
    "hidden layer": lambda: make_head((6,), keras.layers.Dense(9, activation="relu"), softmax()),
    "sigmoid": lambda: make_head((6,), keras.layers.Dense(3, activation="sigmoid")),
    "no softmax": lambda: make_head((6,), keras.layers.Dense(3)),
    "no dense layer": lambda: make_head((3,), keras.layers.Softmax()),
    "another layer": lambda: make_head((6,), keras.layers.LayerNormalization(), softmax()),
    "two ways": branching,
    "a map not averaged": lambda: make_head((2, 3, 6), keras.layers.Flatten(), softmax()),
    "a map's largest": lambda: make_head((2, 3, 6), keras.layers.GlobalMaxPooling2D(), softmax()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_head_is_refused_with_the_heads_that_work(kind: str) -> None:
    with pytest.raises(ConversionError, match=r"need a linear head, such as `--head linear`"):
        linear_head(OTHERS[kind]())


BASES = {
    "pooled": (lambda: [keras.layers.GlobalAveragePooling2D()], "nchw"),
    "pooled and named on": (
        lambda: [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()],
        "nchw",
    ),
    "a map": (lambda: [], "nhwc"),
}


@pytest.mark.parametrize("kind", BASES)
def test_a_bundle_explains_and_answers_as_without(
    kind: str, pictures: list[Path], tmp_path: Path
) -> None:
    layers, layout = BASES[kind]
    base = make_base(*layers())
    pool = [keras.layers.GlobalAveragePooling2D()] if kind == "a map" else []
    head = make_head(base.output_shape[1:], *pool, standardisation(), softmax())
    common: dict[str, Any] = dict(labels=LABELS, preprocessing=NUMBERS, pictures=pictures)
    plain = export_bundle(base, head, out=tmp_path / "plain", **common)
    able = export_bundle(base, head, out=tmp_path / "able.zip", with_feature_map=True, **common)
    assert plain.feature_map is None
    assert able.feature_map is not None
    assert able.feature_map.layout == layout
    assert able.feature_map.pictures == 3
    assert able.feature_map.largest_difference < 1e-5
    with Classifier(tmp_path / "plain") as one, Classifier(tmp_path / "able.zip") as other:
        for picture in pictures:
            expected = one.predict(picture).probabilities
            np.testing.assert_array_equal(other.predict(picture).probabilities, expected)
            logits = [other.explain(picture, label).heat.mean() for label in LABELS]
            np.testing.assert_allclose(probabilities(np.array(logits)), expected, atol=1e-5)


def test_the_same_models_give_the_same_bytes(pictures: list[Path], tmp_path: Path) -> None:
    base = make_base(keras.layers.GlobalAveragePooling2D())
    head = make_head((6,), softmax())
    for name in ("a.zip", "b.zip"):
        export_bundle(
            base,
            head,
            labels=LABELS,
            preprocessing=NUMBERS,
            pictures=pictures,
            out=tmp_path / name,
            with_feature_map=True,
        )
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [keras.layers.GlobalMaxPooling2D()],
        lambda: [keras.layers.GlobalAveragePooling2D(), keras.layers.LayerNormalization()],
    ],
    ids=["the largest", "normalised"],
)
def test_a_base_that_does_not_end_in_an_average_is_refused(
    layers: Any, pictures: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match="need a bottleneck that is the average of a feature"):
        export_bundle(
            make_base(*layers()),
            make_head((6,), softmax()),
            labels=LABELS,
            preprocessing=NUMBERS,
            pictures=pictures,
            out=tmp_path / "bundle",
            with_feature_map=True,
        )
    assert not (tmp_path / "bundle").exists()


def test_a_linear_head_that_is_not_the_head_writes_nothing(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, other = (make_head((6,), softmax()) for _ in range(2))
    monkeypatch.setattr("fic_export.bundle.export.linear_head", lambda *_: linear_head(other))
    with pytest.raises(ParityError, match="nothing was written"):
        export_bundle(
            make_base(keras.layers.GlobalAveragePooling2D()),
            head,
            labels=LABELS,
            preprocessing=NUMBERS,
            pictures=pictures,
            out=tmp_path / "bundle",
            with_feature_map=True,
        )
    assert not (tmp_path / "bundle").exists()


def test_the_graph_is_valid_and_its_first_output_is_the_bottleneck(
    pictures: list[Path], tmp_path: Path
) -> None:
    export_bundle(
        make_base(keras.layers.GlobalAveragePooling2D()),
        make_head((6,), softmax()),
        labels=LABELS,
        preprocessing=NUMBERS,
        pictures=pictures,
        out=tmp_path / "bundle",
        with_feature_map=True,
        single_graph=True,
    )
    fused = onnx.load(tmp_path / "bundle/classifier.onnx")
    assert [output.name for output in fused.graph.output] == ["probabilities"]
    model = onnx.load(tmp_path / "bundle/base.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["bottleneck", "feature_map"]


def test_a_head_alone_explains_on_a_base_that_has_its_feature_map(
    pictures: list[Path], tmp_path: Path
) -> None:
    base = make_base(keras.layers.GlobalAveragePooling2D())
    first, second = (make_head((6,), softmax()) for _ in range(2))
    common: dict[str, Any] = dict(labels=LABELS, preprocessing=NUMBERS, pictures=pictures)
    export_bundle(base, first, out=tmp_path / "able", with_feature_map=True, **common)
    export_bundle(base, first, out=tmp_path / "plain", **common)
    on_able = {"deployed": tmp_path / "able", **common}
    export_head(base, second, out=tmp_path / "head", with_feature_map=True, **on_able)
    export_head(base, second, out=tmp_path / "silent", **on_able)
    with Classifier(tmp_path / "able") as classifier:
        classifier.swap_head(tmp_path / "head")
        logits = [classifier.explain(pictures[0], label).heat.mean() for label in LABELS]
        expected = classifier.predict(pictures[0]).probabilities
        np.testing.assert_allclose(probabilities(np.array(logits)), expected, atol=1e-5)
        classifier.swap_head(tmp_path / "silent")
        with pytest.raises(BundleError, match="the head was exported without"):
            classifier.explain(pictures[0])
    with pytest.raises(ConversionError, match="base was exported without its feature map"):
        export_head(
            base,
            second,
            out=tmp_path / "another",
            with_feature_map=True,
            deployed=tmp_path / "plain",
            **common,
        )
