import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fic.bases.frozen import FrozenBase
from fic.bases.opening import open_base
from fic.data import Source
from fic.errors import FicError
from fic.exporting import export_run
from fic.options import BaseOptions, CacheOptions, ReliabilityOptions, TrainingOptions
from fic.runs import Run
from fic.training import train
from fic_runtime.bundle import TEACHING_FILE
from fic_runtime.graphs.graph import Graph

pytestmark = pytest.mark.usefixtures("nothing_left_in_memory")


def convolutions(*, rescaled: bool = True, side: int | None = 32) -> keras.Model:
    keras.utils.set_random_seed(5)
    pixels = keras.Input((side, side, 3))
    features = keras.layers.Rescaling(1 / 127.5, -1)(pixels) if rescaled else pixels
    features = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="first")(features)
    features = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="second")(features)
    return keras.Model(pixels, features, name="convolutions")


def tokens() -> keras.Model:
    keras.utils.set_random_seed(6)
    pixels = keras.Input((32, 32, 3))
    patches = keras.layers.Conv2D(12, 8, strides=8, name="patches")(pixels)
    sequence = keras.layers.Reshape((16, 12))(patches)
    attended = keras.layers.MultiHeadAttention(2, 6, name="attention")(sequence, sequence)
    sequence = keras.layers.Add()([sequence, attended])
    return keras.Model(pixels, keras.layers.LayerNormalization(name="norm")(sequence))


def saved(model: keras.Model, folder: Path) -> str:
    path = folder / "network.keras"
    model.save(path)
    return str(path)


def quick_run(folder: Path, photos: Path, base: BaseOptions, **options: Any) -> Run:
    return train(
        Source(data=photos, val_split=0.25),
        out=folder / "run",
        base=base,
        cache=CacheOptions(bottleneck_dir=folder / "cache"),
        options=TrainingOptions(**{"epochs": 5, "learning_rate": 0.05, **options}),
    )


@pytest.mark.parametrize("pooling", ["avg", "max", "cls", "none"])
def test_tokens_are_pooled_as_in_the_model(pooling: Any, tmp_path: Path) -> None:
    model = tokens()
    options = BaseOptions(base_model=saved(model, tmp_path), pixels="unit", pooling=pooling)
    base = open_base(options, tmp_path / "cache")
    assert isinstance(base, FrozenBase)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    sequence = model.predict_on_batch(pixels.astype(np.float32) / 255)
    expected = {
        "avg": sequence.mean(axis=1),
        "max": sequence.max(axis=1),
        "cls": sequence[:, 0],
        "none": sequence[:, None],
    }[pooling]
    assert base.fingerprint.shape == expected.shape[1:]
    found = Graph(base.graph_file(), device="cpu").run(pixels)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_model_of_any_size_gets_the_one_that_is_given(tmp_path: Path, photos: Path) -> None:
    path = saved(convolutions(side=None), tmp_path)
    with pytest.raises(FicError, match="give --image-size"):
        open_base(BaseOptions(base_model=path), tmp_path / "cache")
    base = open_base(BaseOptions(base_model=path, image_size=40), tmp_path / "cache")
    assert base.fingerprint.shape == (16,)
    assert base.preprocessing.geometry.width == 40


def test_an_input_that_is_not_square_says_its_size(tmp_path: Path) -> None:
    pixels = keras.Input((32, 48, 3))
    path = saved(keras.Model(pixels, keras.layers.Conv2D(4, 3)(pixels)), tmp_path)
    base = open_base(BaseOptions(base_model=path, pixels="unit"), tmp_path / "cache")
    geometry = base.preprocessing.geometry
    assert (geometry.height, geometry.width) == (32, 48)


def test_a_run_on_a_file_is_tuned_exported_and_explained(tmp_path: Path, photos: Path) -> None:
    base = BaseOptions(base_model=saved(convolutions(), tmp_path))
    run = quick_run(tmp_path, photos, base, fine_tune=1, fine_tune_epochs=1)
    assert run.record["base"]["base_model"] == base.base_model
    manifest = export_run(run.folder, out=tmp_path / "bundle", with_feature_map=True)
    assert manifest.parity["largest_difference"] < 1e-4
    assert manifest.feature_map is not None
    assert manifest.origin["file"] == "network.keras"


@pytest.mark.quantize
def test_a_file_is_exported_in_fewer_bits_with_all_that_a_bundle_may_hold(
    tmp_path: Path, photos: Path
) -> None:
    base = BaseOptions(base_model=saved(convolutions(), tmp_path))
    run = quick_run(tmp_path, photos, base)
    manifest = export_run(
        run.folder,
        out=tmp_path / "bundle",
        quantize="int8",
        quantize_for="size",
        max_accuracy_drop=1.0,
        teachable=True,
        triton=tmp_path / "triton",
        reliability=ReliabilityOptions(false_rejection=0.4),
    )
    assert manifest.quantization["scheme"] == "int8"
    assert manifest.parity["reference"] == "Keras"
    assert manifest.known is not None and TEACHING_FILE in manifest.files
    head = export_run(
        run.folder,
        out=tmp_path / "head",
        head_only=True,
        deployed=tmp_path / "bundle",
        max_accuracy_drop=1.0,
    )
    assert head.head_only


def test_the_rest_of_a_file_is_a_head(tmp_path: Path, photos: Path) -> None:
    base = BaseOptions(base_model=saved(convolutions(), tmp_path), layer="first")
    run = quick_run(tmp_path, photos, base, head="rest", epochs=1)
    assert [layer.name for layer in run.head().layers if layer.name == "second"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing says what its pixels must become"),
        ({"pixels": "unit", "image_size": 48}, "takes pictures of 32 x 32, and not of 48 x 48"),
        ({"pixels": "unit", "pooling": "cls"}, "gives a map"),
        ({"pixels": "unit", "layer": "third"}, "has no layer 'third'"),
        ({"pixels": "unit", "weights": "none"}, "brings its weights"),
    ],
)
def test_what_does_not_fit_a_file_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = saved(convolutions(rescaled=False), tmp_path)
    with pytest.raises(FicError, match=message):
        _ = open_base(BaseOptions(base_model=path, **options), tmp_path / "cache").fingerprint


def two_inputs() -> keras.Model:
    first, second = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    return keras.Model([first, second], keras.layers.Add()([first, second]))


def of_vectors() -> keras.Model:
    numbers = keras.Input((8,))
    return keras.Model(numbers, keras.layers.Dense(2)(numbers))


@pytest.mark.parametrize(
    ("make", "message"), [(two_inputs, "has 2 inputs"), (of_vectors, "its input has the shape")]
)
def test_a_model_of_something_else_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    options = BaseOptions(base_model=saved(make(), tmp_path), pixels="unit")
    with pytest.raises(FicError, match=message):
        open_base(options, tmp_path / "cache")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.keras"
    options = BaseOptions(base_model=str(path), pixels="unit")
    path.write_bytes(b"not an archive")
    with pytest.raises(FicError, match="is not a Keras model"):
        open_base(options, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[]")
    with pytest.raises(FicError, match="is not a Keras model"):
        open_base(options, tmp_path)
