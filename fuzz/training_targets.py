"""Targets of the training side: what fic reads of runs, heads and caches that others may write."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fic.bases.files import local_file
from fic.bases.keras_file import input_of
from fic.bases.preprocessor import find_image_size, read_processor
from fic.bases.weights import open_layers
from fic.cache.keys import make_keys
from fic.cache.rows import checked_pieces
from fic.cache.shards import DamagedShard, encode_rows, open_shard, row_checksums, write_shard
from fic.cli.option_values import recorded_defaults
from fic.data.csv_files import read_csv
from fic.digests import digest_bytes
from fic.fingerprint import Fingerprint
from fic.heads.dense import DenseHead
from fic.heads.dense_files import read_dense, write_dense
from fic.insight import apply_decisions
from fic.runs import Run
from fic_export.graphs.foreign import digest_foreign, read_foreign
from fic_runtime.errors import FicError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

FINGERPRINT = Fingerprint(
    base="tiny",
    weights="0" * 32,
    tensor="output",
    pooling="avg",
    preprocessing=Preprocessing(geometry=Geometry(height=8, width=8), pixels=Pixels()),
    dtype="float32",
    shape=(16,),
)


def shard(data: bytes) -> None:
    """Open a shard and compare all of its rows."""

    def read(file: Path) -> None:
        try:
            found = open_shard(file, FINGERPRINT)
            for _, raw in checked_pieces(found, FINGERPRINT):
                if not np.isfinite(raw.view("<f4")).all():
                    raise AssertionError("bottlenecks that are no numbers")
        except DamagedShard as error:
            _check(str(error))

    _with_file("shard.h5", data, read)


def weights(data: bytes) -> None:
    """List the layers of a file of weights, and read those that are small enough to fit."""

    def read(file: Path) -> None:
        try:
            with open_layers(file) as layers:
                for layer in layers:
                    if sum(weight.nbytes for weight in layer.weights) < 1 << 20:
                        layer.read()
        # `load_file` makes one sentence of whatever a reader raises.
        except Exception as error:
            _check(" ".join(str(error).split()))

    _with_file("weights.h5", data, read)


def dense_head(data: bytes) -> None:
    """Read a dense head without Keras."""
    _with_file("head.keras", data, read_dense)


def run(data: bytes) -> None:
    """Read what commands take of a run."""

    def read(file: Path) -> None:
        found = Run(file.parent)
        readers: tuple[Callable[[], object], ...] = (
            lambda: found.labels,
            lambda: found.base_options,
            lambda: found.cache_options,
            found.frozen_base,
            lambda: recorded_defaults(file),
        )
        for reader in readers:
            try:
                reader()
            except FicError as error:
                _check(str(error))

    _with_file("run.json", data, read)


def foreign_graph(data: bytes) -> None:
    """Read an ONNX file that somebody else wrote, as far as ONNX Runtime is not asked."""

    def read(file: Path) -> None:
        (file.parent / "weights").write_bytes(bytes(64))
        found = read_foreign(file)
        digest_foreign(file)
        for name in (None, *found.tensors[:3]):
            try:
                found.picture_input(found.bottleneck(name))
            except FicError as error:
                _check(str(error))
        found.load_weights(found.model.graph)

    _with_file("network.onnx", data, read)


def keras_file(data: bytes) -> None:
    """Read what a `.keras` file says of its input, before Keras is asked."""
    _with_file("network.keras", data, lambda file: input_of(local_file(str(file))))


def processor(data: bytes) -> None:
    """Follow the config of an image processor, and find an image size in it."""

    def read(file: Path) -> None:
        (file.parent / "config.json").write_bytes(data)
        find_image_size(file.parent)
        found = read_processor(file).sized(size=None, resize=None)
        if found.geometry is not None:
            again = Preprocessing.from_dict(json.loads(json.dumps(found.preprocessing.to_dict())))
            if again != found.preprocessing or not np.isfinite(again.pixels.scale).all():
                raise AssertionError(f"{found} is not what a bundle can hold")

    _with_file("preprocessor_config.json", data, read)


def decisions(data: bytes) -> None:
    """Apply decisions to two pictures; what is written is a data set."""

    def read(file: Path) -> None:
        for name in ("1.jpg", "2.jpg"):
            (file.parent / name).touch()
        with chdir(file.parent):
            apply_decisions(file, Path("out.csv"))
            read_csv(Path("out.csv"))

    _with_file("suspects.csv", data, read)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "foreign_graph": foreign_graph,
    "keras_file": keras_file,
    "processor": processor,
    "decisions": decisions,
    "shard": shard,
    "weights": weights,
    "dense_head": dense_head,
    "run": run,
}


def seeds(target: str) -> list[bytes]:
    """Return valid inputs of a target."""
    makers = {
        **{"shard": _shards, "weights": _weights, "dense_head": _heads, "run": _runs},
        **{"foreign_graph": _graphs, "keras_file": _models},
        **{"processor": _processors, "decisions": _decisions},
    }
    return makers[target]()


def _graphs() -> list[bytes]:
    pixels = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("f", ["c"], ["r"], domain="own"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("own", "f", ["a"], ["b"], body, opsets)
    graph = helper.make_graph(nodes, "g", [pixels], [result], [kernel])
    whole = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    beside = onnx.ModelProto()
    beside.CopyFrom(whole)
    tensor = beside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights"), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    circle = onnx.ModelProto()
    circle.CopyFrom(whole)
    circle.functions[0].node.add(op_type="f", domain="own", input=["b"], output=["d"])
    return [one.SerializeToString() for one in (whole, beside, circle)]


def _models() -> list[bytes]:
    shape = [None, 8, 8, 3]
    layers: list[dict[str, object]] = [
        {"class_name": "InputLayer", "config": {"batch_shape": shape}},
        {"class_name": "Rescaling", "config": {"scale": 0.1}},
    ]
    config = {"class_name": "Functional", "config": {"layers": layers}, "module": "keras"}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", bytes(100))
        found.append(packed.getvalue())
    return found


def _processors() -> list[bytes]:
    vit = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    clip = {**vit, "size": {"shortest_edge": 10}, "crop_size": 8, "do_center_crop": True}
    timm = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
    extreme = {**vit, "rescale_factor": 10**400, "image_size": 1e300}
    return [json.dumps(each).encode() for each in (vit, clip, {"pretrained_cfg": timm}, extreme)]


def _decisions() -> list[bytes]:
    head = b"path,label,suggested,score,problem,split,decision\n"
    return [
        head + b"1.jpg,a,b,0.9,label,train,\n2.jpg,b,a,0.1,,val,keep\n",
        b"path;label;decision\r\n1.jpg;a;b\r\n2.jpg;'=b;reject\r\n",
    ]


def _shards() -> list[bytes]:
    keys = make_keys((digest_bytes(bytes([number])), 0) for number in range(5))
    features = np.arange(5 * 16, dtype="<f4").reshape(5, 16)
    sums = row_checksums(keys, features.view(np.uint8).reshape(5, -1))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for compression in ("none", "gzip"):
            rows = encode_rows(features, compression)
            path = write_shard(Path(folder), FINGERPRINT, keys, sums, rows, compression)
            found.append(path.read_bytes())
    return [*found, _bomb()]


def _bomb() -> bytes:
    """Return some kB that state sixty million rows."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        file.attrs["fingerprint"] = np.bytes_(FINGERPRINT.digest)
        count = 60_000_000
        file.create_dataset("keys", (count, 20), "u1", chunks=(100_000, 20))
        file.create_dataset("checksums", (count,), "u4", chunks=(100_000,))
        file.create_dataset("features", (count, 16), "<f4", chunks=(1, 16))
    return image.getvalue()


def _weights() -> list[bytes]:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["layer_names"] = [b"dense", b"other"]
        for name in ("dense", "other"):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            group["kernel:0"] = np.ones((6, 3), np.float32)
            group["bias:0"] = np.zeros(3, np.float32)
    elsewhere = io.BytesIO(image.getvalue())
    with h5py.File(elsewhere, "r+") as file:
        del file["dense/kernel:0"]
        place = [("/etc/hostname", 0, 72)]
        file["dense"].create_dataset("kernel:0", (6, 3), "f4", external=place)
        del file["other/kernel:0"]
        file["other/kernel:0"] = h5py.ExternalLink("/etc/hostname", "x")
    return [image.getvalue(), elsewhere.getvalue()]


def _heads() -> list[bytes]:
    numbers = np.linspace(-1, 1, 6, dtype=np.float32)
    head = DenseHead(
        shape=(6,),
        scale=1.0,
        mean=numbers,
        variance=np.abs(numbers),
        weights=(np.ones((6, 3), np.float32), np.zeros(3, np.float32)),
        dropout=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_dense(head, Path(folder, "head.keras"))
        return [Path(folder, "head.keras").read_bytes()]


def _runs() -> list[bytes]:
    record = {
        "format": 1,
        "base": {"base_model": "mobilenet_0.25", "weights": "none", "image_size": 32},
        "bottlenecks": {"bottleneck_dir": "/gone", "batch_size": 16, "views": 2},
        "training": {"head": "mlp:8,0.1", "epochs": 2, "learning_rate": 0.01, "seed": 0},
        "source": {"data": "/photos", "val_split": 0.2, "train": None, "val": None},
        "fingerprint": FINGERPRINT.to_dict(),
        "labels": ["a", "b"],
    }
    stranger = {**record, "training": {"head": "/home/evil.py:make", "epochs": float("inf")}}
    return [json.dumps(each).encode() for each in (record, stranger)]


def _with_file(name: str, data: bytes, use: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(data)
        try:
            use(file)
        except FicError as error:
            _check(str(error))


def _check(sentence: str) -> None:
    if not sentence or "\n" in sentence:
        raise AssertionError(f"{sentence!r} is not one sentence")
