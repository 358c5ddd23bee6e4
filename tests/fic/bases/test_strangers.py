"""Networks in files of strangers: read within limits, from their own folder, nothing is run."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from fic.bases.facts import facts_of_file
from fic.bases.onnx_base import OnnxBase
from fic.bases.opening import open_base
from fic.bases.preprocessor import find_image_size, read_processor
from fic.cli import cli
from fic.errors import BaseOptionError, FicError, WeightsError
from fic.options import BaseOptions
from fic_export.errors import ConversionError
from fic_export.graphs.foreign import read_foreign
from tests.fic.bases.pictures_to_vectors import conv_graph, saved
from tests.fic.heads.test_strangers import TRICKS

Dims = tuple[int | str, ...]


def prepared(path: Path) -> OnnxBase:
    """Return the base of a file, read, probed and wrapped."""
    base = open_base(BaseOptions(base_model=str(path), pixels="unit"), path.parent / "cache")
    assert isinstance(base, OnnxBase)
    base.graph_file()
    return base


def refused(path: Path, match: str, *errors: type[FicError]) -> None:
    """Make sure that a base is refused in one line, for the reason `match`."""
    with pytest.raises(errors or FicError, match=match) as caught:
        prepared(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


# --- ONNX graphs ----------------------------------------------------------------------------------


def with_weights(folder: Path, location: str, **entries: int | str) -> Path:
    """Write a graph whose kernel lies in another file."""
    model = conv_graph()
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    (folder / "secret").write_bytes(bytes(size))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 0, "length": size, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    own = folder / "own"
    own.mkdir()
    return saved(model, own / "network.onnx")


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "..\\secret",
        "C:secret",
        "",
        ".",
        "a\0b",
        "a" * 5000,
    ],
)
def test_weights_lie_in_the_folder_of_their_graph(tmp_path: Path, location: str) -> None:
    refused(
        with_weights(tmp_path, location), "outside of its folder|not beside it", ConversionError
    )


@pytest.mark.parametrize(
    "target", ["../secret", "/proc/self/environ", "/dev/zero", "pipe", "folder"]
)
def test_weights_are_a_file_and_no_link_out_of_the_folder(tmp_path: Path, target: str) -> None:
    path = with_weights(tmp_path, "weights")
    weights = path.with_name("weights")
    if target == "pipe":
        os.mkfifo(weights)
    elif target == "folder":
        (path.parent / "down").symlink_to(tmp_path)
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].external_data[0].value = "down/secret"
        path.write_bytes(model.SerializeToString())
    else:
        weights.symlink_to(target)
    refused(path, "out of its folder|not beside it", ConversionError)


def test_weights_may_lie_where_the_link_to_their_graph_leads(tmp_path: Path) -> None:
    path = with_weights(tmp_path, "weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "secret").rename(path.with_name("weights"))
    for name in ("network.onnx", "weights"):  # as the cache of the hub's library has them
        (tmp_path / "snapshot" / name).symlink_to(path.with_name(name))
    assert prepared(tmp_path / "snapshot" / "network.onnx").fingerprint.shape == (16,)


@pytest.mark.parametrize(
    "entries",
    [{"length": 10**12}, {"length": -7}, {"offset": -1}, {"offset": 2**70}, {"offset": "x"}],
    ids=str,
)
def test_weights_are_as_long_as_the_graph_says(tmp_path: Path, entries: dict[str, Any]) -> None:
    path = with_weights(tmp_path, "weights", **entries)
    (tmp_path / "secret").rename(path.with_name("weights"))
    refused(path, "ends before the weights|cannot be read", ConversionError)


def test_the_same_weights_for_each_of_many_constants_are_not_read(tmp_path: Path) -> None:
    path = with_weights(tmp_path, "weights")
    (tmp_path / "secret").rename(path.with_name("weights"))
    model = onnx.load(path, load_external_data=False)
    for number in range(3):
        copy = model.graph.initializer.add()
        copy.CopyFrom(model.graph.initializer[0])
        copy.name = f"copy{number}"
        model.graph.node.append(helper.make_node("Add", ["kernel", copy.name], [f"sum{number}"]))
    graph = read_foreign(saved(model, path))
    with pytest.raises(ConversionError, match="holds fewer weights than"):
        graph.load_weights(model.graph)


@pytest.mark.parametrize(
    "dims",
    [
        ("n", 3, 10**9, 10**9),
        ("n", 3, 2**40, 2**40),
        ("n", 3, -5, -5),
        ("n", 3, 0, 0),
        (10**9, 3, 32, 32),
        (-3, 3, 32, 32),
    ],
    ids=str,
)
def test_an_input_has_the_shape_of_pictures(tmp_path: Path, dims: Dims) -> None:
    model = conv_graph()
    shape = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, dims)
    model.graph.input[0].CopyFrom(shape)
    refused(saved(model, tmp_path / "network.onnx"), "which no pictures have", ConversionError)


def calling(depth: int, times: int, *, circle: bool = False) -> onnx.ModelProto:
    """Return a graph of functions, each of which calls the next one so many times."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for number in range(depth):
        name, domain = (f"f{number - 1}", "own") if number else ("Relu", "")
        if circle and not number:
            name, domain = f"f{depth - 1}", "own"
        steps = ["a", *(f"t{step}" for step in range(times - 1)), "b"]
        nodes = [
            helper.make_node(name, [steps[i]], [steps[i + 1]], domain=domain) for i in range(times)
        ]
        functions.append(helper.make_function("own", f"f{number}", ["a"], ["b"], nodes, opsets))
    model = conv_graph()
    model.graph.node.append(
        helper.make_node(f"f{depth - 1}", ["embedding"], ["result"], domain="own")
    )
    model.graph.output[0].name = "result"
    model.opset_import.append(opsets[1])
    model.functions.extend(functions)
    return model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (calling(30, 2), "more parts than any network"),
        (calling(8, 10), "more parts than any network"),
        (calling(500, 1), "without end"),
        (calling(2, 2, circle=True), "without end"),
        (calling(1, 2, circle=True), "without end"),
    ],
    ids=["doubling", "tenfold", "deep", "circle", "itself"],
)
def test_functions_do_not_grow_without_bound(
    tmp_path: Path, model: onnx.ModelProto, match: str
) -> None:
    refused(saved(model, tmp_path / "network.onnx"), match, ConversionError)


def test_functions_of_a_file_are_put_in_where_they_are_called(tmp_path: Path) -> None:
    base = prepared(saved(calling(3, 3), tmp_path / "network.onnx"))
    assert base.fingerprint.shape == (16,)


def changed(change: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    model = conv_graph()
    change(model.graph)
    return model


def a_circle(graph: onnx.GraphProto) -> None:
    graph.node[1].input[0] = graph.node[-1].output[0]


def no_output(graph: onnx.GraphProto) -> None:
    del graph.output[:]


def weights_cut_off(graph: onnx.GraphProto) -> None:
    graph.initializer[0].raw_data = b"short"


def weights_of_dims_past_all_memory(graph: onnx.GraphProto) -> None:
    graph.initializer[0].dims[:] = [2**32, 2**32, 3, 3]


def not_a_number(graph: onnx.GraphProto) -> None:
    values = np.full((16, 3, 3, 3), np.nan, np.float32)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "kernel"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (a_circle, "computed from no input|acyclic|cannot be opened"),
        (no_output, "gives nothing"),
        (weights_cut_off, "cannot be opened"),
        (weights_of_dims_past_all_memory, "cannot be opened"),
        (not_a_number, "is not finite"),
    ],
)
def test_a_graph_that_lies_is_refused(
    tmp_path: Path, change: Callable[[onnx.GraphProto], object], match: str
) -> None:
    refused(saved(changed(change), tmp_path / "network.onnx"), match)


def test_names_in_a_graph_cannot_move_the_cursor(tmp_path: Path) -> None:
    model = conv_graph(outputs=("embedding", "map"))
    for ends in (model.graph.node[-1].output, [model.graph.output[0]]):
        if isinstance(ends, list):
            ends[0].name = "y\x1b]0;own\x07\n\u202e"
        else:
            ends[0] = "y\x1b]0;own\x07\n\u202e"
    path = saved(model, tmp_path / "network.onnx")
    shown = CliRunner().invoke(cli, ["bases", str(path)])
    assert shown.exit_code == 0, shown.output
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.output)
    assert r"y\x1b]0;own\x07\n\u202e" in shown.output


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_wrapped_graph_is_believed_only_where_nobody_else_writes(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "own"))
    path = saved(conv_graph(), tmp_path / "network.onnx")
    before = prepared(path)
    assert before.graph_file() == before.folder / "base.onnx"
    # As a stranger may do who writes there, with a file of the victim's that is at hand.
    graph, note = before.folder / "base.onnx", before.folder / "base.json"
    expected = graph.read_bytes()
    planted = json.loads(note.read_text())
    graph.write_bytes(b"planted")
    planted["sha256"] = "86" * 32
    note.write_text(json.dumps(planted))
    before.folder.chmod(mode)
    after = prepared(path)
    assert after.graph_file().is_relative_to(tmp_path / "own")
    assert after.graph_file().read_bytes() == expected


# --- Keras models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the parts of an honest model."""
    import keras

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
    path = tmp_path_factory.mktemp("good") / "good.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def built(path: Path) -> tuple[int, ...]:
    """Return the shape of the bottleneck, for which the model is built."""
    base = open_base(BaseOptions(base_model=str(path), pixels="unit"), path.parent / "cache")
    return base.fingerprint.shape


def test_an_honest_model_is_read(tmp_path: Path, good: dict[str, bytes]) -> None:
    assert built(packed(tmp_path / "network.keras", good)) == (4,)


@pytest.mark.parametrize("trick", TRICKS)
def test_keras_runs_and_reads_nothing_that_a_base_names(
    tmp_path: Path, good: dict[str, bytes], trick: str
) -> None:
    (tmp_path / "secret.txt").write_text("one\nsecret words\n")
    config = json.loads(good["config.json"])
    config["config"]["layers"].insert(1, TRICKS[trick](tmp_path / "ran"))
    path = packed(tmp_path / "network.keras", {**good, "config.json": json.dumps(config).encode()})
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        built(path)
    assert "\n" not in str(caught.value) and "secret words" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("config.json", bytes(70 << 20), "would grow from"),
        ("model.weights.h5", bytes(70 << 20), "would grow from"),
        ("config.json", b"[" * 100_000, "not a Keras model"),
        ("config.json", b"[1]", "not a Keras model"),
        ("config.json", b"\xff\xfe", "not a Keras model"),
        ("config.json", b'{"config": {"layers": [{"class_name": []}]}}', "no shape"),
        ("config.json", b'{"config": {"layers": {"a": 1}}}', "no shape"),
    ],
)
def test_the_archive_of_a_model_is_bounded_and_its_config_makes_sense(
    tmp_path: Path, good: dict[str, bytes], name: str, content: bytes, match: str
) -> None:
    path = packed(tmp_path / "network.keras", {**good, name: content})
    for read in (built, lambda path: facts_of_file(str(path))):
        with pytest.raises(FicError, match=match):
            read(path)


@pytest.mark.parametrize("side", [10**9, 10**400, -1, 0, 1.5, "a", True, [1]])
def test_the_input_of_a_model_has_sides_of_pictures(
    tmp_path: Path, good: dict[str, bytes], side: Any
) -> None:
    config = json.loads(good["config.json"])
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, side, side, 3]
    text = json.dumps(config).encode()
    with pytest.raises(BaseOptionError, match="at most 2048 pixels a side"):
        built(packed(tmp_path / "network.keras", {**good, "config.json": text}))


@pytest.mark.parametrize("kind", ["external", "link", "virtual"])
def test_weights_of_a_model_are_in_its_file(
    tmp_path: Path, good: dict[str, bytes], kind: str
) -> None:
    shape = (3, 3, 3, 4)
    (tmp_path / "secret").write_bytes(b"key".ljust(4 * 108))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros(shape, np.float32)
    content = io.BytesIO(good["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        (name,) = (key for key in file["layers"] if len(file["layers"][key]["vars"]))
        own = file["layers"][name]["vars"]
        del own["0"]
        if kind == "external":
            own.create_dataset("0", shape, "f4", external=[(str(tmp_path / "secret"), 0, 432)])
        elif kind == "link":
            own["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape)
            own.create_virtual_dataset("0", layout)
    path = packed(tmp_path / "network.keras", {**good, "model.weights.h5": content.getvalue()})
    with pytest.raises(WeightsError, match="cannot be loaded"):
        built(path)


# --- what is said of pixels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"size": {"height": 10**9, "width": 10**9}},
        {"size": 1e300, "image_processor_type": "ViTImageProcessor"},
        {"rescale_factor": 10**400},
        {"rescale_factor": 1e299, "image_std": [1e-299] * 3},
        {"image_std": [1e-320] * 3},
        {"image_mean": [1e299] * 3},
        {"size": {"shortest_edge": 224}, "crop_pct": 1e-300},
        {"size": {"shortest_edge": 10**400}, "crop_pct": 0.9},
        {"do_" + "x" * 10**6: 1},
    ],
    ids=lambda values: str(values)[:40],
)
def test_extreme_numbers_of_a_config_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    whole = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(whole | values))
    with pytest.raises(BaseOptionError, match="give --pixels") as caught:
        read_processor(path)
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json"])
@pytest.mark.parametrize("content", [b" " * (9 << 20), b"[" * 100_000, b'{"a": ' * 50_000])
def test_a_config_is_read_to_its_limit(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    read = read_processor if name.startswith("pre") else lambda path: find_image_size(path.parent)
    with pytest.raises(BaseOptionError, match="cannot be read"):
        read(tmp_path / name)
