"""Targets of the training side: what fic reads of runs, heads and caches that others may write."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from fic.bases.weights import open_layers
from fic.cache.keys import make_keys
from fic.cache.rows import checked_pieces
from fic.cache.shards import DamagedShard, encode_rows, open_shard, row_checksums, write_shard
from fic.cli.option_values import recorded_defaults
from fic.digests import digest_bytes
from fic.fingerprint import Fingerprint
from fic.heads.dense import DenseHead
from fic.heads.dense_files import read_dense, write_dense
from fic.runs import Run
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


TARGETS: dict[str, Callable[[bytes], None]] = {
    "shard": shard,
    "weights": weights,
    "dense_head": dense_head,
    "run": run,
}


def seeds(target: str) -> list[bytes]:
    """Return valid inputs of a target."""
    return {"shard": _shards, "weights": _weights, "dense_head": _heads, "run": _runs}[target]()


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
