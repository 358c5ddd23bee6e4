"""Where the weights of a base come from: nowhere, ImageNet, or a file.

TensorFlow and h5py are imported inside the functions: the table of bases stays cheap to list.
"""

from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError, one_line
from .table import Base

if TYPE_CHECKING:
    import keras

_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def load_file(model: "keras.Model", base: Base, path: Path) -> None:
    """Load a `.h5`, `.weights.h5` or `.keras` file; a classifier at its end is left out.

    Raises:
        WeightsError: the file cannot be read, or holds another architecture.
    """
    import h5py

    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; --weights takes imagenet, none, or a .h5, .weights.h5 or "
            ".keras file"
        )
    try:
        if h5py.is_hdf5(path) and (stored := read_layers(path)):
            _assign(model, stored)
        else:
            model.load_weights(path)
    # Keras raises whatever its reader met: ValueError, OSError, KeyError, zipfile.BadZipFile.
    except Exception as error:
        raise WeightsError(
            f"{path}: these are not weights of {base.name} ({one_line(error)}); "
            f"give a file that was saved from {base.constructor}"
        ) from error
    mend_released_normalization(model)


def read_layers(path: Path) -> list[tuple[str, list[Any]]]:
    """Return name and arrays of each layer that has any, from the format of Keras 2; else []."""
    import h5py

    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        layers = []
        for name in _names(group, "layer_names"):
            arrays = [group[name][key][()] for key in _names(group[name], "weight_names")]
            if arrays:
                layers.append((name, arrays))
    return layers


def _names(group: Any, attribute: str) -> list[str]:
    # Keras splits a list that exceeds HDF5's limit on attributes into name0, name1, …
    chunks = (f"{attribute}{number}" for number in count())
    keys = [attribute] if attribute in group.attrs else takewhile(group.attrs.__contains__, chunks)
    names = [name for key in keys for name in group.attrs[key]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _assign(model: "keras.Model", stored: Sequence[tuple[str, list[Any]]]) -> None:
    """Give each layer its arrays, in the model's order: names differ between Keras releases."""
    layers = [layer for layer in model.layers if layer.weights]
    if len(stored) < len(layers):
        raise ValueError(f"{len(stored)} layers with weights where {len(layers)} are needed")
    # What follows the base's layers in the file is the classifier.
    for layer, (name, arrays) in zip(layers, stored, strict=False):
        found = [array.shape for array in arrays]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if found != wanted:
            raise ValueError(f"layer {name} has shapes {found} where {layer.name} needs {wanted}")
        layer.load_own_variables({str(index): array for index, array in enumerate(arrays)})


def mend_released_normalization(model: "keras.Model") -> None:
    """Square the variance that the released files of EfficientNet B0 to B7 hold.

    They store the standard deviation in its place; `weights="imagenet"` makes up for it with one
    more layer (keras-team/keras, applications/efficientnet.py), which a model for a file lacks.
    """
    import numpy as np

    for layer in model.layers:
        if type(layer).__name__ == "Normalization" and layer.weights:
            mean, variance, *rest = layer.get_weights()
            if np.allclose(variance, _IMAGENET_DEVIATION, rtol=1e-3):
                arrays = (mean, variance**2, *rest)
                layer.load_own_variables({str(i): array for i, array in enumerate(arrays)})
