"""Weights of a base from files, and the repair of released ones.

TensorFlow and h5py are imported inside the functions: the table of bases stays cheap to list.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; --weights takes imagenet, none, or a .h5, .weights.h5 or "
            ".keras file"
        )
    try:
        with open_layers(path) as stored:
            if stored:
                _assign(model, stored)
        if not stored:
            model.load_weights(path)
    except MemoryError as error:
        raise WeightsError(f"{path}: does not fit in memory; give another file") from error
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


@dataclass(frozen=True)
class StoredLayer:
    """A layer in a file of Keras 2: its name, and the data sets of its weights, not read yet."""

    name: str
    weights: Sequence[Any]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes that the file states."""
        return [weight.shape for weight in self.weights]

    def read(self) -> list[Any]:
        """Return the arrays; the shapes have been found to be right before."""
        return [weight[()] for weight in self.weights]


@contextmanager
def open_layers(path: Path) -> Iterator[list[StoredLayer]]:
    """Give each layer that has weights, from the format of Keras 2; none of any other file.

    What a layer holds has to lie in the file itself: a data set whose values are in another file
    would make them weights, and so a part of what is exported.

    Raises:
        OSError, ValueError: the file cannot be read, or refers to others.
    """
    import h5py

    if not h5py.is_hdf5(path):
        yield []
        return
    with h5py.File(path) as file:
        group = hdf5_member(file, "model_weights") if "model_weights" in file else file
        layers = []
        for name in _names(group, "layer_names"):
            own = hdf5_member(group, name)
            weights = [hdf5_array(own, key) for key in _names(own, "weight_names")]
            if weights:
                layers.append(StoredLayer(name, weights))
        yield layers


def hdf5_member(group: Any, path: str) -> Any:
    """Return a member of an HDF5 group, reached without a link to another place or file.

    Raises:
        ValueError: it is no member, or a link.
    """
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{path} is not in it")
        link = group.get(name, getlink=True) if name and name not in (".", "..") else None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} is {'a link' if link is not None else 'not in it'}")
        group = group[name]
    return group


def hdf5_array(group: Any, path: str) -> Any:
    """Return a data set of numbers that are in the file itself.

    Raises:
        ValueError: it is something else.
    """
    import h5py

    found = hdf5_member(group, path)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"{path} holds no array")
    if found.is_virtual or found.external:
        raise ValueError(f"the values of {path} are in another file")
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds no numbers")
    return found


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


def _assign(model: "keras.Model", stored: Sequence[StoredLayer]) -> None:
    """Give each layer its arrays, in the model's order: names differ between Keras releases."""
    layers = [layer for layer in model.layers if layer.weights]
    if len(stored) < len(layers):
        raise ValueError(f"{len(stored)} layers with weights where {len(layers)} are needed")
    # What follows the base's layers in the file is the classifier.
    for layer, own in zip(layers, stored, strict=False):
        wanted = [tuple(weight.shape) for weight in layer.weights]
        # Before anything is read: some bytes may state gigabytes.
        if own.shapes != wanted:
            raise ValueError(
                f"layer {own.name} has shapes {own.shapes} where {layer.name} needs {wanted}"
            )
    for layer, own in zip(layers, stored, strict=False):
        layer.load_own_variables({str(index): array for index, array in enumerate(own.read())})
