import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fic.bases.onnx_base import OnnxBase
from fic.bases.opening import open_base
from fic.bottlenecks import fill_cache
from fic.data import Source
from fic.errors import BaseOptionError, FicError, WeightsError
from fic.exporting import export_run
from fic.heads.building import parse_head
from fic.options import BaseOptions, CacheOptions, ReliabilityOptions, TrainingOptions
from fic.training import train
from fic_export.conversion import wrapping
from fic_export.errors import ConversionError
from fic_export.graphs import files
from fic_runtime import Classifier
from fic_runtime.graphs.graph import Graph
from tests.fic.bases.pictures_to_vectors import FEATURES, SIDE, conv_graph, saved


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def opened(path: Path, **options: Any) -> OnnxBase:
    """Return a base with its cache beside it."""
    base = open_base(
        BaseOptions(base_model=str(path), **{"pixels": "imagenet", **options}),
        path.parent / "cache",
    )
    assert isinstance(base, OnnxBase)
    return base


def difference(base: OnnxBase, pixels: np.ndarray) -> float:
    """Return how far the wrapped graph is from the file itself, relative to the largest value."""
    expected = base.reference.bottlenecks(pixels)
    found = Graph(base.graph_file(), device="cpu").run(pixels)
    assert found.shape == expected.shape == (len(pixels), *base.fingerprint.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"layout": "nhwc"},
        {"layout": "nhwc", "opset": 11, "ir_version": 3},
        {"opset": 18, "ir_version": 9},
        {"opset": min(onnx.defs.onnx_opset_version(), 22), "ir_version": 10},
        {"side": "side"},
        {"batch": 1},
        {"batch": 1, "layout": "nhwc"},
        {"batch": 4},
        {"input_name": "image"},
        {"dtype": TensorProto.FLOAT16},
    ],
    ids=str,
)
def test_a_graph_in_any_form_gives_what_its_file_gives(
    made: dict[str, Any], tmp_path: Path, pixels: np.ndarray
) -> None:
    size = SIDE if made.get("side") else None
    base = opened(saved(conv_graph(**made), tmp_path / "network.onnx"), image_size=size)
    least = 5e-3 if made.get("dtype") == TensorProto.FLOAT16 else 1e-5
    assert difference(base, pixels) < least
    assert base.fingerprint.shape == (FEATURES,)


@pytest.mark.parametrize(
    ("tensor", "pooling", "shape"),
    [
        ("map", "avg", (FEATURES,)),
        ("map", "max", (FEATURES,)),
        ("map", "none", (15, 15, FEATURES)),
        ("convolved", "avg", (FEATURES,)),  # no output of the graph
        ("tokens", "avg", (FEATURES,)),
        ("tokens", "max", (FEATURES,)),
        ("tokens", "cls", (FEATURES,)),
        ("tokens", "none", (1, 225, FEATURES)),
        ("pooled", "avg", (FEATURES,)),
    ],
)
@pytest.mark.parametrize("opset", [12, 18])
def test_any_tensor_is_pooled_into_a_bottleneck(
    tensor: str,
    pooling: Any,
    shape: tuple[int, ...],
    opset: int,
    tmp_path: Path,
    pixels: np.ndarray,
) -> None:
    model = conv_graph(outputs=("embedding", "map", "tokens", "pooled"), opset=opset)
    path = saved(model, tmp_path / "network.onnx")
    base = opened(path, layer=tensor, pooling=pooling)
    assert base.fingerprint.shape == shape
    assert difference(base, pixels) < 1e-5


def test_an_input_that_is_not_square_says_its_size(tmp_path: Path) -> None:
    model = conv_graph()
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 2 * SIDE
    path = saved(model, tmp_path / "network.onnx")
    base = opened(path, resize="crop")
    geometry = base.preprocessing.geometry
    assert (geometry.height, geometry.width, geometry.resize) == (SIDE, 2 * SIDE, "crop")
    wide = np.random.default_rng(3).integers(0, 256, (3, SIDE, 2 * SIDE, 3), np.uint8)
    assert difference(base, wide) < 1e-5
    with pytest.raises(BaseOptionError, match="give --pixels without --image-size"):
        _ = opened(path, image_size=SIDE).fingerprint


def test_the_name_that_publishers_use_is_taken_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = conv_graph(outputs=("map", "tokens"))
    for node in model.graph.node:
        node.output[:] = [name.replace("tokens", "last_hidden_state") for name in node.output]
    model.graph.output[1].name = "last_hidden_state"
    path = saved(model, tmp_path / "network.onnx")
    assert opened(path).fingerprint.tensor == "last_hidden_state"
    assert "last_hidden_state is the bottleneck" in caplog.text


def test_an_input_of_uint8_needs_no_word_on_its_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    path = saved(conv_graph(dtype=TensorProto.UINT8, layout="nhwc"), tmp_path / "network.onnx")
    base = opened(path, pixels=None)
    assert difference(base, pixels) < 1e-5
    with pytest.raises(BaseOptionError, match="its input pixel_values is uint8"):
        _ = opened(path, pixels="clip").fingerprint


def test_weights_beside_the_graph_come_into_the_base_and_into_its_digest(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / "network.onnx"
    saved(conv_graph(), path, save_as_external_data=True, location="its.weights", size_threshold=0)
    base = opened(path)
    assert difference(base, pixels) < 1e-5
    before = base.fingerprint
    weights = bytearray((tmp_path / "its.weights").read_bytes())
    weights[3] ^= 1
    (tmp_path / "its.weights").write_bytes(weights)
    assert opened(path).fingerprint.weights != before.weights
    (tmp_path / "its.weights").unlink()
    with pytest.raises(ConversionError, match=r"its weights are in its\.weights, which is not"):
        _ = opened(path).fingerprint


def test_weights_past_the_limit_lie_beside_the_base_and_in_the_bundle(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 1000)  # bytes, instead of 2 GB
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    assert run.frozen_base().has_graph
    export_run(run.folder, out=tmp_path / "bundle")
    assert (tmp_path / "bundle" / "base.onnx.data").stat().st_size > 1000
    assert Classifier(tmp_path / "bundle").predict(next(photos.glob("red/*"))).label


def quick_run(tmp_path: Path, photos: Path, base: BaseOptions, **options: Any) -> Any:
    """Train a head in seconds."""
    return train(
        Source(data=photos, val_split=0.25),
        out=tmp_path / "run",
        base=base,
        cache=CacheOptions(bottleneck_dir=tmp_path / "cache"),
        options=TrainingOptions(epochs=20, learning_rate=0.05, **options),
    )


def test_a_graph_is_trained_on_exported_and_served(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(batch=1), tmp_path / "network.onnx")
    base = BaseOptions(base_model=str(path), pixels="symmetric", resize="crop")
    run = quick_run(tmp_path, photos, base)
    manifest = export_run(run.folder, out=tmp_path / "bundle", teachable=True)
    assert manifest.parity["largest_difference"] < 1e-4
    assert manifest.origin["file"] == "network.onnx"
    assert manifest.origin["weights"] == run.frozen_base().fingerprint.weights
    assert manifest.base.input.name == "image" and manifest.base.input.dtype == "uint8"
    classifier = Classifier(tmp_path / "bundle")
    assert [classifier.predict(file).label for file in sorted(photos.glob("*/1.png"))] == list(
        run.labels
    )
    # A head alone fits the base of the bundle, and neither needs the file again.
    path.unlink()
    with pytest.raises(ConversionError, match="cannot be read"):
        export_run(run.folder, out=tmp_path / "head", head_only=True)


@pytest.mark.quantize
@pytest.mark.parametrize("opset", [13, 20])
def test_a_graph_is_quantized_and_fused_in_its_own_opset(
    opset: int, tmp_path: Path, photos: Path
) -> None:
    model = conv_graph(opset=opset)
    # As exporters write constants that several nodes share.
    model.graph.node.insert(0, helper.make_node("Identity", ["kernel"], ["same_kernel"]))
    model.graph.node[1].input[1] = "same_kernel"
    path = saved(model, tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    manifest = export_run(
        run.folder,
        out=tmp_path / "bundle",
        quantize="int8",
        quantize_for="size",
        max_accuracy_drop=1.0,
        single_graph=True,
        triton=tmp_path / "triton",
    )
    assert manifest.quantization["scheme"] == "int8"
    assert manifest.single_graph["largest_difference"] < 1e-4
    base = onnx.load(tmp_path / "bundle" / "base.onnx")
    assert "DequantizeLinear" in {node.op_type for node in base.graph.node}


def test_a_class_token_that_stands_there_once_is_for_each_picture(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    model = conv_graph(batch=1, outputs=("tokens",))
    token = onnx.numpy_helper.from_array(np.ones((1, 1, FEATURES), np.float32), "token")
    model.graph.initializer.append(token)
    model.graph.node.append(helper.make_node("Concat", ["token", "tokens"], ["all"], axis=1))
    model.graph.output[0].name = "all"
    base = opened(saved(model, tmp_path / "network.onnx"))
    assert difference(base, pixels) < 1e-5


def attention_for_one_picture() -> onnx.ModelProto:
    """Return attention over tokens with the shapes that PyTorch's exporter writes for one picture.

    The heads lie along the first axis for a while, and a 0 in a shape would be a length.
    """
    model = conv_graph(batch=1, outputs=("tokens",))
    shapes = {
        "of_heads": [1, 225, 2, 8],
        "heads_first": [2, -1, 8],
        "for_picture": [1, 2, 225, 8],
        "of_tokens": [1, 225, FEATURES],
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(shape, np.int64), name)
        for name, shape in shapes.items()
    )
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Reshape", ["tokens", "of_heads"], {"allowzero": 1}),
        ("Transpose", ["x0"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["x1", "heads_first"], {}),
        ("Transpose", ["x2"], {"perm": [0, 2, 1]}),
        ("MatMul", ["x2", "x3"], {}),
        ("Softmax", ["x4"], {}),
        ("MatMul", ["x5", "x2"], {}),
        ("Reshape", ["x6", "for_picture"], {"allowzero": 1}),
        ("Transpose", ["x7"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["x8", "of_tokens"], {"allowzero": 1}),
    ]
    for number, (operator, inputs, attributes) in enumerate(steps):
        model.graph.node.append(helper.make_node(operator, inputs, [f"x{number}"], **attributes))
    model.graph.output[0].name = f"x{len(steps) - 1}"
    return model


def test_attention_that_was_traced_for_one_picture_takes_any_number(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    base = opened(saved(attention_for_one_picture(), tmp_path / "network.onnx"))
    assert difference(base, pixels) < 1e-5


def values_in_places_for_one_picture() -> onnx.ModelProto:
    """Return a graph that copies values to places, as PyTorch's newer exporter writes a view."""
    model = conv_graph(batch=1, outputs=("tokens",))
    places = np.random.default_rng(0).permutation(225 * FEATURES)[: 9 * FEATURES]
    constants = {"all": [-1], "places": places.reshape(1, 9, FEATURES), "shape": [1, 9 * FEATURES]}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        for name, values in constants.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["tokens", "all"], ["row"]),
            helper.make_node("Gather", ["row", "places"], ["taken"], axis=0),
            helper.make_node("Reshape", ["taken", "shape"], ["vector"]),
        ]
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("vector", 1, [1, 9 * FEATURES]))
    return model


def shape_put_together_for_one_picture(rest: int) -> onnx.ModelProto:
    """Return a graph whose shape for one picture is partly counted, as the older one writes it."""
    model = conv_graph(batch=1, outputs=("tokens",))
    constants = {"one": [1], "rest": [rest], "which": [2]}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        for name, values in constants.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["tokens"], ["sides"]),
            helper.make_node("Gather", ["sides", "which"], ["features"], axis=0),
            helper.make_node("Concat", ["one", "rest", "features"], ["shape"], axis=0),
            helper.make_node("Reshape", ["tokens", "shape"], ["again"]),
        ]
    )
    model.graph.output[0].name = "again"
    return model


@pytest.mark.parametrize(
    "model",
    [
        values_in_places_for_one_picture(),
        shape_put_together_for_one_picture(225),
        shape_put_together_for_one_picture(-1),
    ],
    ids=["places", "counted", "counted and open"],
)
def test_what_exporters_write_for_one_picture_takes_any_number(
    tmp_path: Path, pixels: np.ndarray, model: onnx.ModelProto
) -> None:
    base = opened(saved(model, tmp_path / "network.onnx"))
    assert difference(base, pixels) < 1e-5


def test_a_graph_that_answers_otherwise_for_any_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = wrapping._Builder._gather_of_each
    monkeypatch.setattr(
        wrapping._Builder,
        "_gather_of_each",
        lambda self, nodes, node, source, places: right(self, nodes, node, source, places[:, ::-1]),
    )
    base = opened(saved(values_in_places_for_one_picture(), tmp_path / "network.onnx"))
    with pytest.raises(FicError, match="for any number it gives something else"):
        base.graph_file()


@pytest.mark.quantize
def test_all_that_a_bundle_may_hold_comes_from_a_graph_too(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    manifest = export_run(
        run.folder,
        out=tmp_path / "bundle",
        quantize="fp16",
        max_accuracy_drop=1.0,
        teachable=True,
        reliability=ReliabilityOptions(false_rejection=0.4),
    )
    assert manifest.quantization["scheme"] == "fp16"
    assert manifest.parity["reference"] == "network.onnx"
    classifier = Classifier(tmp_path / "bundle")
    pictures = sorted(photos.glob("*/*.png"))[:3]
    assert classifier.predict(pictures[0]).known is not None
    classifier.teach("another", pictures)
    assert "another" in classifier.labels


def test_a_head_alone_is_exported_for_the_deployed_base(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    export_run(run.folder, out=tmp_path / "bundle")
    head = export_run(
        run.folder, out=tmp_path / "head", head_only=True, deployed=tmp_path / "bundle"
    )
    assert head.head_only and not (tmp_path / "head" / "base.onnx").exists()


def test_the_gate_looks_at_pixels_in_a_way_of_its_own(tmp_path: Path, photos: Path) -> None:
    """A graph with other numbers in front of it than the config says is not exported."""
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    base = run.frozen_base()
    other = opened(path, pixels="imagenet")
    shutil.copy(other.graph_file(), base.graph_file())
    note = json.loads((base.folder / "base.json").read_text())
    note["sha256"] = json.loads((other.folder / "base.json").read_text())["sha256"]
    (base.folder / "base.json").write_text(json.dumps(note))
    with pytest.raises(FicError, match=r"differ from network\.onnx by"):
        export_run(run.folder, out=tmp_path / "bundle")


def test_extraction_needs_no_tensorflow(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    script = (
        "import sys; from pathlib import Path\n"
        "from fic.bottlenecks import fill_cache; from fic.data import Source\n"
        "from fic.options import BaseOptions, CacheOptions\n"
        f"fill_cache(Source(data=Path({str(photos)!r})), base=BaseOptions(base_model={str(path)!r},"
        f" pixels='unit'), cache=CacheOptions(bottleneck_dir=Path({str(tmp_path / 'c')!r})))\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_renamed_file_finds_its_bottlenecks_and_a_changed_one_does_not(
    tmp_path: Path, photos: Path
) -> None:
    cache = CacheOptions(bottleneck_dir=tmp_path / "cache")

    def use(name: str, **options: Any) -> tuple[int, int]:
        base = BaseOptions(base_model=str(tmp_path / name), **{"pixels": "unit", **options})
        done = fill_cache(Source(data=photos), base=base, cache=cache)
        return done.hits, done.extracted

    saved(conv_graph(), tmp_path / "one.onnx")
    shutil.copy(tmp_path / "one.onnx", tmp_path / "two.onnx")
    saved(conv_graph(opset=18), tmp_path / "three.onnx")
    assert use("one.onnx") == (0, 24)
    assert use("two.onnx") == (24, 0)
    assert use("two.onnx", pixels="clip") == (0, 24)
    assert use("two.onnx", layer="map") == (0, 24)
    assert use("three.onnx") == (0, 24)


def test_an_export_wants_a_file_that_has_moved_where_it_was(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    path.rename(tmp_path / "moved.onnx")
    with pytest.raises(
        ConversionError, match=r"network\.onnx: cannot be read, .* put it back there"
    ):
        export_run(run.folder, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "moved.onnx").rename(path)
    export_run(run.folder, out=tmp_path / "bundle")


def test_a_run_does_not_take_another_file_for_its_own(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    run = quick_run(tmp_path, photos, BaseOptions(base_model=str(path), pixels="unit"))
    saved(conv_graph(opset=18), path)
    with pytest.raises(WeightsError, match="is not the file of the run any more"):
        export_run(run.folder, out=tmp_path / "bundle")


def custom() -> onnx.ModelProto:
    model = conv_graph()
    model.graph.node[1].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def two_pictures() -> onnx.ModelProto:
    model = conv_graph()
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    model.graph.input.append(other)
    model.graph.node.insert(0, helper.make_node("Add", ["pixel_values", "other"], ["both"]))
    model.graph.node[1].input[0] = "both"
    return model


def of_integers() -> onnx.ModelProto:
    model = conv_graph(dtype=TensorProto.UINT8)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def fixed_batch() -> onnx.ModelProto:
    """Return a graph that adds up its pictures."""
    model = conv_graph(batch=2, outputs=("sum",))
    model.graph.node.append(
        helper.make_node("ReduceMean", ["embedding"], ["mean"], axes=[0], keepdims=1)
    )
    model.graph.node.append(helper.make_node("Sub", ["embedding", "mean"], ["sum"]))
    return model


def branches() -> onnx.ModelProto:
    model = conv_graph()
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.append(yes)
    part = helper.make_graph(
        [helper.make_node("Identity", ["embedding"], ["same"])],
        "part",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["either"], then_branch=part, else_branch=part)
    )
    return model


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (custom, {}, "uses custom operators .com.microsoft.Relu."),
        (two_pictures, {}, "is computed from the inputs pixel_values, other|other, pixel_values"),
        (of_integers, {}, "holds int64"),
        (fixed_batch, {}, "cannot be used for any number of pictures"),
        (branches, {}, "holds loops or branches .If"),
        (lambda: conv_graph(opset=10), {}, "is written in opset 10"),
        (lambda: conv_graph(outputs=("map", "tokens")), {}, "has the outputs map, tokens; say"),
        (conv_graph, {"layer": "embeding"}, "has no tensor 'embeding'; the nearest are embedding"),
        (conv_graph, {"layer": "rows"}, "has no tensor 'rows'"),
        (conv_graph, {"pooling": "cls"}, "--pooling cls: takes the first of several tokens"),
        (conv_graph, {"pixels": None}, "nothing says what its pixels must become"),
        (conv_graph, {"image_size": 48}, "takes pictures of 32 x 32, and --image-size says 48"),
        (lambda: conv_graph(side="any"), {}, "give --image-size"),
        (conv_graph, {"weights": "none"}, "an ONNX file brings its weights"),
        (conv_graph, {"preprocessor": "p.json"}, "--pixels and --preprocessor both say"),
    ],
)
def test_what_cannot_be_a_base_is_refused_in_a_sentence(
    model: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = saved(model(), tmp_path / "network.onnx")
    with pytest.raises(FicError, match=message) as error:
        base = opened(path, **options)
        _ = base.fingerprint
        base.graph_file()
    assert "\n" not in str(error.value)


def test_files_that_are_not_onnx_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    with pytest.raises(BaseOptionError, match="no such file"):
        opened(path)
    for content in (b"", b"not a graph", conv_graph().SerializeToString()[:-200]):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match="is not an ONNX graph"):
            _ = opened(path).fingerprint


@pytest.mark.parametrize("options", [{"head": "rest"}, {"fine_tune": 1}])
def test_what_needs_a_keras_model_is_refused_before_any_work(
    options: dict[str, Any], tmp_path: Path, photos: Path
) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    base = BaseOptions(base_model=str(path), pixels="unit", layer="map")
    assert parse_head("rest").kind == "rest"
    with pytest.raises(BaseOptionError, match=r"network\.onnx is an ONNX graph"):
        quick_run(tmp_path, photos, base, **options)
    assert not list((tmp_path / "cache").glob("*/*.h5"))


def test_the_keras_engine_and_explanations_are_refused(tmp_path: Path, photos: Path) -> None:
    path = saved(conv_graph(), tmp_path / "network.onnx")
    base = BaseOptions(base_model=str(path), pixels="unit")
    cache = CacheOptions(bottleneck_dir=tmp_path / "cache")
    with pytest.raises(BaseOptionError, match="--engine keras"):
        fill_cache(Source(data=photos), base=base, cache=replace(cache, engine="keras"))
    run = quick_run(tmp_path, photos, base)
    with pytest.raises(BaseOptionError, match="--with-feature-map takes apart a Keras model"):
        export_run(run.folder, out=tmp_path / "bundle", with_feature_map=True)


def test_a_base_of_the_table_knows_its_pixels(tmp_path: Path) -> None:
    with pytest.raises(BaseOptionError, match="--pixels raw: is for a base in a file"):
        open_base(BaseOptions(pixels="raw"), tmp_path)
    with pytest.raises(BaseOptionError, match="gives a map"):
        open_base(BaseOptions(pooling="cls"), tmp_path)
