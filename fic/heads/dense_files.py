"""Dense heads in Keras's file format, written and read without Keras.

A `.keras` file is a zip archive of `config.json` (the layers), `metadata.json` and
`model.weights.h5` (their weights). Written here, `keras.models.load_model` opens it and the model
gives the same answers; of files that Keras wrote, those are read whose layers are these.
"""

import io
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.reading import open_regular, read_regular

from ..bases.weights import hdf5_array, hdf5_member
from ..errors import HeadError, one_line
from .building import BOTTLENECK, PROBABILITIES, STANDARDIZE
from .dense import DenseHead

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_WEIGHTS = "model.weights.h5"
# Bytes of the parts of an archive: a linear head of 10 000 classes on 100 000 numbers fits.
_MOST_CONFIG = 1 << 26
_MOST_WEIGHTS = 1 << 32
# What the layers are called in a file of weights: by their classes.
_GROUPS = {
    "InputLayer": "input_layer",
    "GlobalAveragePooling2D": "global_average_pooling2d",
    "Rescaling": "rescaling",
    "Normalization": "normalization",
    "Dense": "dense",
    "Dropout": "dropout",
}
_LINEAR = ["Rescaling", "Normalization", "Dense"]
_MLP = ["Rescaling", "Normalization", "Dense", "Dropout", "Dense"]
# What has to stand in a layer's configuration for it to be the one that is meant.
_EXPECTED: Mapping[str, Mapping[str, Any]] = {
    "GlobalAveragePooling2D": {"keepdims": False},
    "Rescaling": {"offset": 0.0},
    "Normalization": {"invert": False},
    "Dense": {
        **{"use_bias": True, "quantization_config": None, "trainable": True},
        **dict.fromkeys(("kernel_regularizer", "bias_regularizer", "activity_regularizer")),
        **dict.fromkeys(("kernel_constraint", "bias_constraint", "lora_rank")),
    },
    "Dropout": {"noise_shape": None},
}


def write_dense(head: DenseHead, path: Path) -> None:
    """Write a head as a `.keras` file; the same head and release of Keras give the same bytes."""
    contents = {
        "config.json": json.dumps(_model(head)).encode(),
        "metadata.json": json.dumps(
            {"keras_version": version("keras"), "date_saved": "1980-01-01@00:00:00"}
        ).encode(),
        _WEIGHTS: weights_file(head),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    path.write_bytes(packed.getvalue())


def weights_file(head: DenseHead) -> bytes:
    """Return the content of a `.weights.h5` file of the head."""
    import h5py

    image = io.BytesIO()
    arrays = iter(head.weights)
    with h5py.File(image, "w") as file:
        file.create_group("vars").attrs["name"] = "head"
        for group, layer in _groups(_layers(head)):
            variables = file.create_group(f"layers/{group}/vars")
            variables.attrs["name"] = layer["config"]["name"]
            if layer["class_name"] == "Dense":
                variables["0"], variables["1"] = next(arrays), next(arrays)
    return image.getvalue()


def read_dense(path: Path) -> DenseHead | None:
    """Return the head in a `.keras` file, or None where Keras is needed to say what is in it."""
    try:
        with (
            open_regular(path) as raw,
            io.BufferedReader(raw) as file,
            zipfile.ZipFile(file) as archive,
        ):
            config = json.loads(_part(archive, "config.json", _MOST_CONFIG))
            weights = _part(archive, _WEIGHTS, _MOST_WEIGHTS)
        return _head(config, weights)
    except HeadError as error:
        raise HeadError(f"{path}: {error}") from error
    # Damaged in whatever way, or something else: Keras then says what.
    except Exception as error:
        log.debug("%s: %s", path, one_line(error))
        return None


def _part(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a part of an archive, which may say that it is smaller than it is.

    Raises:
        HeadError: it has more than `most` bytes.
    """
    with archive.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise HeadError(f"{name} in it has more than {most} bytes; give a head that fic trained")
    return data


def read_weights(head: DenseHead, path: Path) -> DenseHead | None:
    """Return the head with the weights of a `.weights.h5` file, or None as `read_dense`."""
    try:
        return head.with_weights(_arrays(read_regular(path, _MOST_WEIGHTS), _layers(head)))
    except Exception as error:  # as in `read_dense`
        log.debug("%s: %s", path, one_line(error))
        return None


def to_keras(head: DenseHead) -> "keras.Model":
    """Return the head as a Keras model."""
    import tempfile

    import keras

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "head.keras")
        write_dense(head, file)
        return keras.models.load_model(file, compile=False)


def _model(head: DenseHead) -> dict[str, Any]:
    layers = _layers(head)
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "head",
            "trainable": True,
            "layers": layers,
            "input_layers": [BOTTLENECK, 0, 0],
            "output_layers": [PROBABILITIES, 0, 0],
        },
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def _layers(head: DenseHead) -> list[dict[str, Any]]:
    """Return the layers in the order in which data passes them, as they stand in `config.json`."""
    features = len(head.mean)
    layers = [_layer("InputLayer", BOTTLENECK, {"batch_shape": [None, *head.shape]})]

    def add(kind: str, name: str, shape: Sequence[int], **config: Any) -> None:
        before = layers[-1]["name"]
        layers.append(_layer(kind, name, config, after=before, shape=shape))

    if len(head.shape) == 3:
        add(
            *("GlobalAveragePooling2D", "pool", head.shape),
            data_format="channels_last",
            keepdims=False,
        )
    add("Rescaling", "unit", [features], scale=head.scale, offset=0.0)
    add(
        *("Normalization", STANDARDIZE, [features]),
        axis=[-1],
        mean=head.mean.tolist(),
        variance=head.variance.tolist(),
        invert=False,
    )
    if head.is_mlp:
        units = len(head.weights[1])
        add("Dense", "hidden", [features], units=units, activation="relu", use_bias=True)
        add("Dropout", "dropout", [units], rate=head.dropout)
        features = units
    add(
        *("Dense", PROBABILITIES, [features]),
        units=head.classes,
        activation="softmax",
        use_bias=True,
    )
    return layers


def _layer(
    kind: str,
    name: str,
    config: Mapping[str, Any],
    *,
    after: str | None = None,
    shape: Sequence[int] = (),
) -> dict[str, Any]:
    """Return a layer that takes (n, *shape) from the layer `after`, if from any."""
    nodes = []
    taken = {"shape": [None, *shape], "dtype": "float32", "keras_history": [after, 0, 0]}
    if after is not None:
        nodes = [{"args": [{"class_name": "__keras_tensor__", "config": taken}], "kwargs": {}}]
    layer: dict[str, Any] = {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "dtype": "float32", **config},
        "registered_name": None,
        "name": name,
        "inbound_nodes": nodes,
    }
    if after is not None:
        layer["config"]["trainable"] = True
        layer["build_config"] = {"input_shape": [None, *shape]}
    return layer


def _groups(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each layer with its group in a file of weights; a second one of a class is `…_1`."""
    seen: dict[str, int] = {}
    found = []
    for layer in layers:
        group = _GROUPS[layer["class_name"]]
        number = seen[group] = seen.get(group, -1) + 1
        found.append((f"{group}_{number}" if number else group, layer))
    return found


def _arrays(data: bytes, layers: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
    """Return kernel and bias of each dense layer.

    Raises:
        OSError, LookupError, ValueError: they are not there.
    """
    import h5py

    arrays = []
    with h5py.File(io.BytesIO(data)) as file:
        for group, layer in _groups(layers):
            variables = hdf5_member(file, f"layers/{group}/vars")
            expected = 2 if layer["class_name"] == "Dense" else 0
            if len(variables) != expected:
                raise ValueError(f"{group} has {len(variables)} arrays")
            arrays += [_array(variables, str(number)) for number in range(expected)]
    if any(array.dtype != np.float32 for array in arrays):
        raise ValueError("of another type than float32")
    return arrays


def _array(group: Any, name: str) -> NDArray[np.float32]:
    found = hdf5_array(group, name)
    # Stored as it is: of chunks that were never written, some bytes may state gigabytes.
    if found.id.get_storage_size() != found.nbytes:
        raise ValueError("it has more values than bytes")
    array: NDArray[np.float32] = found[()]
    return array


def _head(config: Mapping[str, Any], weights: bytes) -> DenseHead | None:
    if config["class_name"] != "Functional":
        return None
    layers = config["config"]["layers"]
    if not _is_dense(layers, config["config"]):
        return None
    by_kind = {layer["class_name"]: layer["config"] for layer in layers}
    shape = tuple(int(side) for side in by_kind["InputLayer"]["batch_shape"][1:])
    mean, variance = (
        np.array(by_kind["Normalization"][name], np.float32).reshape(-1)
        for name in ("mean", "variance")
    )
    arrays = tuple(_arrays(weights, layers))
    sizes = [shape[-1], *(len(array) for array in arrays[1::2])]
    if (
        len(shape) != (3 if "GlobalAveragePooling2D" in by_kind else 1)
        or not len(mean) == len(variance) == sizes[0]
        or [array.shape for array in arrays[::2]] != list(pairwise(sizes))
        or [array.ndim for array in arrays[1::2]] != [1] * (len(sizes) - 1)
    ):
        return None
    return DenseHead(
        shape=shape,
        scale=float(by_kind["Rescaling"]["scale"]),
        mean=mean,
        variance=variance,
        weights=arrays,
        dropout=float(by_kind.get("Dropout", {}).get("rate", 0.0)),
    )


def _is_dense(layers: Sequence[Mapping[str, Any]], model: Mapping[str, Any]) -> bool:
    """Return whether these layers, one after the other, are all of a dense head."""
    kinds = [layer["class_name"] for layer in layers]
    body = kinds[2:] if kinds[1:2] == ["GlobalAveragePooling2D"] else kinds[1:]
    if kinds[:1] != ["InputLayer"] or body not in (_LINEAR, _MLP):
        return False
    activations = [layer["config"].get("activation") for layer in layers]
    if [name for name in activations if name] != ["relu", "softmax"][-kinds.count("Dense") :]:
        return False
    for before, layer in zip([None, *layers], layers, strict=False):
        values, expected = layer["config"], _EXPECTED.get(layer["class_name"], {})
        if (
            layer["module"] != "keras.layers"
            or _type(values.get("dtype", "float32")) != "float32"
            or any(values.get(name, value) != value for name, value in expected.items())
            or _origins(layer) != ([] if before is None else [before["name"]])
        ):
            return False
    last = layers[-1]["name"]
    ends = (model["input_layers"], model["output_layers"])
    normalization = layers[len(kinds) - len(body) + 1]["config"]
    pooling = layers[1]["config"].get("data_format", "channels_last")
    return (
        [np.ravel(end)[0] for end in ends] == [layers[0]["name"], last]
        and normalization["axis"] in ([-1], [1], -1, 1)
        and pooling == "channels_last"
    )


def _type(dtype: Any) -> Any:
    return dtype["config"]["name"] if isinstance(dtype, Mapping) else dtype


def _origins(layer: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers that a layer takes its inputs from."""
    return [
        argument["config"]["keras_history"][0]
        for node in layer["inbound_nodes"]
        for argument in node["args"]
    ]
