import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from fic.errors import HeadError
from fic.heads.keras_files import check_files, save_files
from fic.heads.standalone import HeadFile, read_labels
from fic.options import BaseOptions
from fic.runs import Run
from fic_export.errors import OutputError


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    file = tmp_path / "labels.json"
    file.write_text('["blue", "green", "red"]', encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained(cold_run: Run) -> keras.Model:
    """Return the head of the run; nobody changes it."""
    return cold_run.head()


def dense(features: int, classes: int) -> keras.Model:
    return keras.Sequential(
        [keras.Input((features,)), keras.layers.Dense(classes, activation="softmax")]
    )


# --- saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["top.h5", "top.keras", "deep/er/top.keras"])
def test_a_saved_head_gives_the_same_answers(
    tmp_path: Path, trained: keras.Model, name: str
) -> None:
    save_files(trained, [], weight_file=tmp_path / name)
    bottlenecks = np.random.default_rng(0).random((4, *trained.input_shape[1:]), np.float32)
    loaded = keras.models.load_model(tmp_path / name, compile=False)
    np.testing.assert_array_equal(
        loaded.predict_on_batch(bottlenecks), trained.predict_on_batch(bottlenecks)
    )


def test_weights_alone_go_into_a_head_of_the_same_layers(
    tmp_path: Path, trained: keras.Model
) -> None:
    save_files(trained, [], weight_file=tmp_path / "top.weights.h5")
    clone = keras.models.clone_model(trained)
    clone.load_weights(tmp_path / "top.weights.h5")
    for one, other in zip(clone.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_label_file_maps_labels_to_indices(tmp_path: Path, trained: keras.Model) -> None:
    file = tmp_path / "deep/labels.json"
    save_files(trained, ["Blüte", "b", "10"], label_file=file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"Blüte": 0, "b": 1, "10": 2}
    assert read_labels(file) == ("Blüte", "b", "10")


@pytest.mark.parametrize("name", ["top.h5", "top.keras", "top.weights.h5"])
def test_a_file_of_fic_s_is_replaced_and_nothing_else_stays(
    tmp_path: Path, trained: keras.Model, name: str
) -> None:
    save_files(trained, [], weight_file=tmp_path / name)
    before = (tmp_path / name).stat()
    save_files(trained, [], weight_file=tmp_path / name)
    assert (tmp_path / name).stat().st_ino != before.st_ino
    assert (tmp_path / name).stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["top.h5", "top.keras", "top.weights.h5"])
def test_a_file_of_somebody_else_is_not_replaced(
    tmp_path: Path, trained: keras.Model, name: str
) -> None:
    save = trained.save_weights if name.endswith(".weights.h5") else trained.save
    save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match="is not a head that fic wrote"):
        save_files(trained, [], weight_file=tmp_path / name)
    (tmp_path / "labels.json").write_text('{"a": 0, "b": 1}')
    with pytest.raises(OutputError, match="is not a label file that fic wrote"):
        save_files(trained, ["a"], label_file=tmp_path / "labels.json")
    assert (tmp_path / name).read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, trained: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    save_files(trained, [], weight_file=tmp_path / "top.h5")
    old = (tmp_path / "top.h5").read_bytes()
    monkeypatch.setattr(trained, "save", fail)
    with pytest.raises(OutputError, match=r"top\.h5: cannot be written \(No space left"):
        save_files(trained, [], weight_file=tmp_path / "top.h5")
    assert (tmp_path / "top.h5").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["top.h5"]


def test_keras_s_notice_about_its_older_format_is_not_shown(
    tmp_path: Path, trained: keras.Model, caplog: pytest.LogCaptureFixture
) -> None:
    save_files(trained, [], weight_file=tmp_path / "top.h5")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("top", "the name must end in .keras, .h5"),
        ("top.onnx", "the name must end in .keras, .h5"),
        ("folder.h5", "is a folder"),
        ("file/top.h5", "cannot be written"),
        ("file/deep/top.h5", "cannot be written"),
        ("/proc/fic/top.h5", "cannot be written"),
    ],
)
def test_a_place_where_no_head_can_be_saved_is_known_before(
    tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=says) as caught:
        check_files(tmp_path / name, None)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_label_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"labels\.txt: the name must end in \.json"):
        check_files(None, tmp_path / "labels.txt")


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_map.json", '{"roses": 1, "daisy": 0, "tulips": 2}'),
        ("label_map.json", '{"1": "roses", "0": "daisy", "2": "tulips"}'),
        ("label_map.json", '["daisy", "roses", "tulips"]'),
        ("labels.txt", "daisy\nroses\ntulips\n"),
        ("labels.txt", "\ufeffdaisy\r\nroses\r\ntulips"),
    ],
)
def test_every_form_of_a_label_file_gives_the_order_of_the_outputs(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(tmp_path / name) == ("daisy", "roses", "tulips")


def test_labels_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"7": 0, "3": 1}')
    assert read_labels(tmp_path / "map.json") == ("7", "3")


def test_more_than_ten_indices_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({str(i): f"class {i}" for i in range(12)}))
    assert read_labels(tmp_path / "map.json")[10] == "class 10"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("map.json", "", "cannot be read"),
        ("map.json", "{}", "is not a list of labels"),
        ("map.json", "3", "is not a list of labels"),
        ("map.json", '["a", 3]', "is not a list of labels"),
        ("map.json", '["a", "a"]', "names 'a' twice"),
        ("map.json", '{"a": 0, "b": 2}', "its indices are not 0 to 1"),
        ("map.json", '{"a": 0, "b": 0}', "its indices are not 0 to 1"),
        ("map.json", '{"a": "x", "b": "y"}', "its indices are not 0 to 1"),
        ("map.json", '{"a": 1, "b": 2}', "its indices are not 0 to 1"),
        ("labels.txt", "", "is not a list of labels"),
        ("labels.txt", "a\n\nb\n", "is not a list of labels"),
        ("labels.txt", b"\xff", "cannot be read"),
        ("missing.txt", None, "cannot be read"),
    ],
)
def test_a_label_file_that_makes_no_sense_is_one_sentence(
    tmp_path: Path, name: str, text: str | bytes | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(HeadError, match=says) as caught:
        read_labels(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


# --- loading --------------------------------------------------------------------------------------


def test_a_head_of_another_width_names_both_sides(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    dense(7, 3).save(tmp_path / "top.keras")
    with pytest.raises(
        HeadError, match=r"takes bottlenecks of 7, but mobilenet_0\.25 .* gives 256"
    ):
        HeadFile(tmp_path / "top.keras", labels, base, tmp_path / "cache").head()


def test_a_head_for_feature_maps_names_both_shapes(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    inputs = keras.Input((None, None, 256))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "top.keras")
    with pytest.raises(HeadError, match=r"takes bottlenecks of any x any x 256, .* gives 256;"):
        HeadFile(tmp_path / "top.keras", labels, base, tmp_path / "cache").head()


def test_a_head_for_maps_of_any_size_gets_the_size_of_the_base(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    inputs = keras.Input((None, None, 256))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "top.keras")
    maps = replace(base, pooling="none", image_size=64)
    head = HeadFile(tmp_path / "top.keras", labels, maps, tmp_path / "cache").head()
    assert head.input_shape == (None, 2, 2, 256)
    bottlenecks = np.random.default_rng(0).random((2, 2, 2, 256), np.float32)
    np.testing.assert_allclose(
        head.predict_on_batch(bottlenecks), model.predict_on_batch(bottlenecks), rtol=1e-5
    )


def test_a_head_with_other_outputs_than_labels_names_both(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    dense(256, 5).save(tmp_path / "top.keras")
    with pytest.raises(HeadError, match=r"gives 5 probabilities, but there are 3 labels"):
        HeadFile(tmp_path / "top.keras", labels, base, tmp_path / "cache").head()


def test_a_model_of_several_outputs_is_no_head(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    inputs = keras.Input((256,))
    outputs = [keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(inputs)]
    keras.Model(inputs, outputs).save(tmp_path / "top.keras")
    with pytest.raises(HeadError, match="has several inputs or outputs"):
        HeadFile(tmp_path / "top.keras", labels, base, tmp_path / "cache").head()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.h5", "no such file"),
        ("top.weights.h5", "holds weights and not the layers"),
        ("top.onnx", "is not a file of Keras by its name"),
        ("text.h5", "Keras cannot load it"),
        ("text.keras", "Keras cannot load it"),
    ],
)
def test_a_file_that_is_no_head_is_one_sentence(
    tmp_path: Path, base: BaseOptions, labels: Path, name: str, says: str
) -> None:
    if name != "missing.h5":
        (tmp_path / name).write_text("hello")
    with pytest.raises(HeadError, match=says) as caught:
        HeadFile(tmp_path / name, labels, base, tmp_path / "cache").head()
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def weights_of_keras_2(file: Path, **layers: list[Any]) -> None:
    """Write weights as `save_weights` of Keras 2 did: no layers, only what they hold."""
    with h5py.File(file, "w") as hdf5:
        hdf5.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = hdf5.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{i}:0".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}/{i}:0"] = array


def test_weights_of_one_dense_layer_from_keras_2_are_a_linear_head(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(256, 3)), random.normal(size=3)
    weights_of_keras_2(tmp_path / "top.h5", input_1=[], dense_1=[kernel, bias])
    head = HeadFile(tmp_path / "top.h5", labels, base, tmp_path / "cache").head()
    bottlenecks = random.normal(size=(2, 256))
    powers = np.exp(bottlenecks @ kernel + bias)
    np.testing.assert_allclose(
        head.predict_on_batch(bottlenecks.astype(np.float32)),
        powers / powers.sum(axis=1, keepdims=True),
        atol=1e-4,
    )


def test_weights_of_several_layers_from_keras_2_are_refused(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    kernel, bias = np.zeros((256, 3)), np.zeros(3)
    weights_of_keras_2(tmp_path / "top.h5", one=[kernel, bias], two=[kernel, bias])
    with pytest.raises(HeadError, match="more than those of one dense layer"):
        HeadFile(tmp_path / "top.h5", labels, base, tmp_path / "cache").head()


def test_a_head_that_runs_code_of_its_own_is_not_loaded(
    tmp_path: Path, base: BaseOptions, labels: Path
) -> None:
    inputs = keras.Input((256,))
    outputs = keras.layers.Dense(3)(keras.layers.Lambda(lambda x: x)(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "top.keras")
    with pytest.raises(HeadError, match="Keras cannot load it"):
        HeadFile(tmp_path / "top.keras", labels, base, tmp_path / "cache").head()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": 1e999}', '{"a": 1' + "0" * 5000 + "}", f'{{"{"1" * 5000}": "a"}}', "3"],
)
def test_labels_that_make_no_sense_are_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(HeadError) as caught:
        read_labels(tmp_path / "labels.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["labels.json", "labels.txt"])
def test_labels_are_read_from_a_plain_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(HeadError, match="it is not a regular file"):
        read_labels(tmp_path / name)
