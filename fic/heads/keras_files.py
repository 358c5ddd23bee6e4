"""Heads as files of Keras: saved so that the same head gives the same bytes, loaded with one check.

Keras puts the time of saving and addresses in memory into the archive; both say nothing about the
head, and would make each run of one training look like another result.
"""

import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fic_export.errors import OutputError
from fic_runtime.reading import open_regular
from fic_runtime.results import cannot_write, check_own_file, check_writable, whole_file

from ..bases.weights import locking_remedy, open_layers
from ..errors import HeadError, one_line
from ..fingerprint import LAST_LAYER, Fingerprint
from .dense import DenseHead, Head
from .dense_files import read_dense, to_keras, weights_file, write_dense

if TYPE_CHECKING:
    import keras

WEIGHTS_SUFFIX = ".weights.h5"
"""The end of the name of a file that holds weights and no layers."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_FORMATS = ".keras, .h5, or .weights.h5 for the weights alone"
_Fault = tuple[str, str]  # what is wrong with a file, and what helps
_MARK = "fic"
_HDF5_BYTES = 1 << 17  # more than the format takes beside the numbers
_SHARED = re.compile(rb'"shared_object_id": (\d+)')


def save_head(head: Head, path: Path) -> None:
    """Save a head in Keras's own format; same head and release of Keras, same bytes."""
    if isinstance(head, DenseHead):
        write_dense(head, path)
        return
    head.save(path)
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as saved, zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(saved.namelist()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), _timeless(name, saved.read(name)))
    path.write_bytes(packed.getvalue())


def save_weights(model: "keras.Model", path: Path) -> None:
    """Save the weights of a model alone, `.weights.h5`.

    Raises:
        OSError: the file cannot be written.
    """
    _check_room(path, model)
    model.save_weights(path)


def open_head(
    path: Path, fingerprint: Fingerprint, labels: Sequence[str], *, remedy: str | None = None
) -> Head:
    """Load a head as `load_head` does, without Keras where it is a linear or mlp one."""
    head = None if _fault_of_name(path) else read_dense(path)
    if head is None:
        return load_head(path, fingerprint, labels, remedy=remedy)
    if fault := _misfit(head, fingerprint, labels):
        raise _unusable(path, fault, remedy)
    return head


def load_head(
    path: Path, fingerprint: Fingerprint, labels: Sequence[str], *, remedy: str | None = None
) -> "keras.Model":
    """Load a head that Keras saved: a whole model, or the one dense layer of a file of Keras 2.

    Args:
        path: the file, `.keras` or `.h5`.
        fingerprint: of the bottlenecks that the head is to take.
        labels: its outputs.
        remedy: what helps against any fault of the file, where the caller knows; by default what
            helps against each.

    Raises:
        HeadError: the file cannot be read, holds something other than a model with one input and
            one output, or does not fit the bottlenecks or the labels.
    """
    if fault := _fault_of_name(path):
        raise _unusable(path, fault, remedy)
    try:
        open_regular(path).close()
    except OSError as error:
        raise HeadError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    import keras

    try:
        with _quiet_absl():
            head = _single_layer(path, fingerprint, labels) or keras.models.load_model(
                path, compile=False
            )
    except _MisfitError as error:
        raise _unusable(path, error.fault, remedy) from None
    except Exception as error:  # Keras raises a different class for each way to be damaged
        reason = one_line(error)
        if path.suffix == ".keras" and not zipfile.is_zipfile(path):
            reason = "it is no zip archive, or cut off"  # for Keras there is no such file
        fault = (
            f"Keras cannot load it as a whole model ({reason})",
            "save the head anew with model.save",
        )
        if locks := locking_remedy(error):
            fault, remedy = (f"cannot be read ({reason})", locks), locks
        raise _unusable(path, fault, remedy) from error
    if fault := _misfit(head, fingerprint, labels):
        raise _unusable(path, fault, remedy)
    if None in head.input_shape[1:]:
        # What is exported and trained has the sides of its bottlenecks in its own input.
        closed = keras.models.clone_model(head, input_tensors=keras.Input(fingerprint.shape))
        closed.set_weights(head.get_weights())
        return closed
    return head


def check_files(weight_file: Path | None, label_file: Path | None) -> None:
    """Make sure, before a training, that its head and labels can be saved there.

    Raises:
        OutputError: the name has no known suffix, nothing can be written there, or a file is there
            that fic did not write.
    """
    if weight_file is not None:
        if weight_file.suffix not in (".keras", ".h5"):
            raise OutputError(f"{weight_file}: the name must end in {_FORMATS}")
        check_own_file(weight_file, _is_marked, kind="a head")
        check_writable(weight_file)
    if label_file is not None:
        if label_file.suffix != ".json":
            raise OutputError(f"{label_file}: the name must end in .json")
        check_own_file(label_file, _is_label_file, kind="a label file")
        check_writable(label_file)


def save_files(
    head: Head,
    labels: Sequence[str],
    *,
    weight_file: Path | None = None,
    label_file: Path | None = None,
) -> None:
    """Write the head as the suffix says, and the labels as a JSON object from label to index.

    Files that fic wrote earlier are replaced, each in one step.

    Raises:
        OutputError: see `check_files`.
    """
    check_files(weight_file, label_file)
    if weight_file is not None:
        weights_only = weight_file.name.endswith(WEIGHTS_SUFFIX)
        with _quiet_absl():
            _replace(weight_file, partial(_save_marked, head, weights_only=weights_only))
    if label_file is not None:
        text = _label_text(labels)
        _replace(label_file, lambda path: path.write_text(text, encoding="utf-8"))


def _save_marked(head: Head, path: Path, *, weights_only: bool) -> None:
    """Save a head with a mark by which a later training knows it for one of fic's."""
    import h5py

    if isinstance(head, DenseHead) and not weights_only and path.suffix != ".keras":
        head = to_keras(head)
    if path.suffix == ".keras":
        if isinstance(head, DenseHead):
            write_dense(head, path)
        else:
            head.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = _MARK.encode()
        return
    if isinstance(head, DenseHead):
        path.write_bytes(weights_file(head))
    elif weights_only:
        save_weights(head, path)
    else:
        _check_room(path, head)
        head.save(path)
    with h5py.File(path, "r+") as file:
        file.attrs[_MARK] = True


def _is_marked(path: Path) -> bool:
    import h5py

    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return archive.comment == _MARK.encode()
    with h5py.File(path) as file:
        return _MARK in file.attrs


def _label_text(labels: Sequence[str]) -> str:
    indices = {label: index for index, label in enumerate(labels)}
    return json.dumps(indices, indent=2, ensure_ascii=False) + "\n"


def _is_label_file(path: Path) -> bool:
    # JSON has no place for a mark: what counts is the form, to the byte.
    text = path.read_text(encoding="utf-8")
    return text == _label_text(json.loads(text))


def _check_room(path: Path, model: "keras.Model") -> None:
    """Make sure that the disk takes a file of HDF5, whose library crashes where it does not."""
    weights = sum(array.nbytes for array in model.get_weights())
    remaining = weights + weights // 16 + _HDF5_BYTES + 2 * len(model.to_json())
    try:
        with path.open("xb") as file:
            while remaining > 0:
                remaining -= file.write(bytes(min(remaining, 1 << 20)))
    finally:
        path.unlink(missing_ok=True)


def _timeless(name: str, data: bytes) -> bytes:
    if name == "metadata.json":
        return json.dumps({**json.loads(data), "date_saved": "1980-01-01@00:00:00"}).encode()
    if name == "config.json":
        # Objects that several layers share are told by their addresses; their order does as well.
        seen: dict[bytes, int] = {}
        return _SHARED.sub(
            lambda found: b'"shared_object_id": %d' % seen.setdefault(found[1], len(seen)), data
        )
    return data


def _unusable(path: Path, fault: _Fault, remedy: str | None) -> HeadError:
    wrong, usual_remedy = fault
    return HeadError(f"{path}: {wrong}; {remedy or usual_remedy}")


def _fault_of_name(path: Path) -> _Fault | None:
    if not path.is_file():
        return "no such file", f"give a head that Keras saved ({_FORMATS})"
    if path.name.endswith(WEIGHTS_SUFFIX):
        return (
            "holds weights and not the layers they belong to",
            "save the whole head as .keras or .h5",
        )
    if path.suffix not in (".keras", ".h5"):
        return "is not a file of Keras by its name", "give a .keras or .h5 file"
    return None


def _misfit(
    head: "Head | _Shapes", fingerprint: Fingerprint, labels: Sequence[str]
) -> _Fault | None:
    if not (_is_one_shape(head.input_shape) and _is_one_shape(head.output_shape)):
        return (
            "has several inputs or outputs",
            "give a head that turns one bottleneck into the probabilities of the classes",
        )
    takes, gets = head.input_shape[1:], fingerprint.shape
    # None stands for a side of a feature map that may be of any length.
    if len(takes) != len(gets) or any(
        side not in (None, given) for side, given in zip(takes, gets, strict=True)
    ):
        cut = "its last layer" if fingerprint.tensor == LAST_LAYER else fingerprint.tensor
        return (
            f"takes bottlenecks of {_times(takes)}, but {fingerprint.base} cut at {cut} gives "
            f"{_times(gets)}",
            "give --base-model, --bottleneck-tensorname, --pooling and --image-size as in its "
            "training",
        )
    if head.output_shape[1:] != (len(labels),):
        return (
            f"gives {_times(head.output_shape[1:])} probabilities, but there are {len(labels)} "
            "labels",
            "give the head of these labels, or the labels of this head",
        )
    return None


def _is_one_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(side is None or isinstance(side, int) for side in shape)


def _times(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)


def _single_layer(
    path: Path, fingerprint: Fingerprint, labels: Sequence[str]
) -> "keras.Model | None":
    """Return the head of an HDF5 file of Keras 2 that holds the weights of one layer alone.

    Those can only be the kernel and the bias of a linear classifier, the scripts' usual head.
    """
    import h5py
    import keras

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        if "model_config" in file.attrs:
            return None
    with open_layers(path) as layers:
        if len(layers) != 1 or [len(shape) for shape in layers[0].shapes] != [2, 1]:
            raise ValueError("it holds weights alone, and more than those of one dense layer")
        (features, classes), (outputs,) = layers[0].shapes
        if classes != outputs:
            raise ValueError("its kernel and its bias do not go together")
        # Before anything is read: some bytes may state gigabytes.
        stated = _Shapes((None, features), (None, classes))
        if fault := _misfit(stated, fingerprint, labels):
            raise _MisfitError(fault)
        kernel, bias = layers[0].read()
    dense = keras.layers.Dense(len(bias), activation="softmax")
    head = keras.Sequential([keras.Input(kernel.shape[:1]), dense])
    dense.set_weights([kernel, bias])
    return head


class _Shapes(NamedTuple):
    """The shapes of a head that was not built."""

    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]


class _MisfitError(Exception):
    """A file of weights is the head of another base or of other labels."""

    def __init__(self, fault: _Fault) -> None:
        super().__init__(*fault)
        self.fault = fault


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            write(part)
    except OSError as error:
        if remedy := locking_remedy(error):
            raise OutputError(
                f"{target}: cannot be written ({one_line(error)}); {remedy}"
            ) from error
        raise cannot_write(target, error) from error


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Hold back what Keras logs of its older file format, which the user has chosen."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
