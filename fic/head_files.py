"""A head outside a run: one Keras file and one file of labels, as scripts keep them."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_export.errors import OutputError

from .base_weights import read_layers
from .dataset import is_class_name
from .errors import HeadError
from .frozen_base import FrozenBase
from .options import BaseOptions, CacheOptions

if TYPE_CHECKING:
    import keras

_WEIGHTS_ONLY = ".weights.h5"
_FORMATS = ".keras, .h5, or .weights.h5 for the weights alone"


@dataclass(frozen=True)
class HeadFile:
    """A trained head saved by Keras, its labels, and the base that it was trained on.

    It answers what a `Run` answers, so that `fic.prediction` takes either.

    Attributes:
        weight_file: a whole model, `.keras` or `.h5`, from bottleneck to probabilities; or an
            `.h5` of Keras 2 with the weights of one dense layer, whose answers go through softmax.
        label_file: see `read_labels`.
        base_options: the base, with the weights and the cut that the head was trained with.
        bottleneck_dir: the cache that holds or gets the converted base.
    """

    weight_file: Path
    label_file: Path
    base_options: BaseOptions
    bottleneck_dir: Path = CacheOptions.bottleneck_dir

    @property
    def cache_options(self) -> CacheOptions:
        """Where the converted base is kept."""
        return CacheOptions(bottleneck_dir=self.bottleneck_dir)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the head's outputs."""
        return read_labels(self.label_file)

    def frozen_base(self) -> FrozenBase:
        """Return the base that the head is to be used with."""
        return self._base

    @cached_property
    def _base(self) -> FrozenBase:
        return FrozenBase(self.base_options, self.bottleneck_dir)

    def head(self) -> "keras.Model":
        """Load the head.

        Raises:
            HeadError: it cannot be read, or does not fit the labels or the base.
        """
        head = load_head(self.weight_file)
        outputs = head.output_shape[-1]
        if outputs != len(self.labels):
            raise HeadError(
                f"{self.weight_file}: gives {outputs} probabilities, but {self.label_file} names "
                f"{len(self.labels)} labels; give the label file of this head"
            )
        takes, gets = tuple(head.input_shape[1:]), self._base.fingerprint.shape
        # None stands for a side of a feature map that may be of any length.
        if len(takes) != len(gets) or any(
            side not in (None, given) for side, given in zip(takes, gets, strict=True)
        ):
            cut = self.base_options.tensor or "its last layer"
            raise HeadError(
                f"{self.weight_file}: takes bottlenecks of {_times(takes)}, but "
                f"{self._base.row.name} cut at {cut} gives {_times(gets)}; give --base-model, "
                "--bottleneck-tensorname, --pooling and --image-size as in training"
            )
        return head


def _is_one_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(side is None or isinstance(side, int) for side in shape)


def _times(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)


def load_head(path: Path) -> "keras.Model":
    """Load a head that Keras saved: a whole model, or the one dense layer of a file of Keras 2.

    Raises:
        HeadError: the file cannot be read, or holds no model with one input and one output.
    """
    if not path.is_file():
        raise HeadError(f"{path}: no such file; give a head that Keras saved ({_FORMATS})")
    if path.name.endswith(_WEIGHTS_ONLY):
        raise HeadError(
            f"{path}: holds weights and not the layers they belong to; save the whole head as "
            ".keras or .h5"
        )
    if path.suffix not in (".keras", ".h5"):
        raise HeadError(f"{path}: is no file of Keras by its name; give a .keras or .h5 file")
    import keras

    try:
        with _quiet_absl():
            head = _single_layer(path) or keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises a different class for each way to be damaged
        reason = " ".join(str(error).split())[:200]
        raise HeadError(
            f"{path}: Keras cannot load it as a whole model ({reason}); save the head anew with "
            "model.save"
        ) from error
    if not (_is_one_shape(head.input_shape) and _is_one_shape(head.output_shape)):
        raise HeadError(
            f"{path}: has several inputs or outputs; give a head that turns one bottleneck into "
            "the probabilities of the classes"
        )
    return head


def _single_layer(path: Path) -> "keras.Model | None":
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
    layers = read_layers(path)
    if len(layers) != 1 or [array.ndim for array in layers[0][1]] != [2, 1]:
        raise ValueError("it holds weights alone, and more than those of one dense layer")
    kernel, bias = layers[0][1]
    dense = keras.layers.Dense(len(bias), activation="softmax")
    head = keras.Sequential([keras.Input(kernel.shape[:1]), dense])
    dense.set_weights([kernel, bias])
    return head


def check_files(weight_file: Path | None, label_file: Path | None) -> None:
    """Find out before a training whether its head and labels can be saved there.

    Raises:
        OutputError: the name says no format, or nothing can be written at that place.
    """
    if weight_file is not None:
        if weight_file.suffix not in (".keras", ".h5"):
            raise OutputError(f"{weight_file}: the name must end in {_FORMATS}")
        _check_place(weight_file)
    if label_file is not None:
        if label_file.suffix != ".json":
            raise OutputError(f"{label_file}: the name must end in .json")
        _check_place(label_file)


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


def save_files(
    head: "keras.Model",
    labels: Sequence[str],
    *,
    weight_file: Path | None = None,
    label_file: Path | None = None,
) -> None:
    """Write the head as the suffix says, and the labels as a JSON object from label to index.

    Files that are there are replaced, each in one step.

    Raises:
        OutputError: see `check_files`.
    """
    check_files(weight_file, label_file)
    if weight_file is not None:
        weights_only = weight_file.name.endswith(_WEIGHTS_ONLY)
        with _quiet_absl():
            _replace(weight_file, head.save_weights if weights_only else head.save)
    if label_file is not None:
        indices = {label: index for index, label in enumerate(labels)}
        text = json.dumps(indices, indent=2, ensure_ascii=False)
        _replace(label_file, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    try:
        # Through a link: what it leads to is replaced. Beside it, since a rename needs one disk;
        # under its own name, since Keras goes by the suffix.
        target = target.resolve()
        with tempfile.TemporaryDirectory(prefix=".fic-", dir=target.parent) as work:
            part = Path(work) / target.name
            write(part)
            part.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); give another place")


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Hold back what Keras logs of its older file format, which the user has chosen."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a label file, in the order of the head's outputs.

    A `.json` file holds an object from label to index, an object from index to label, or a list
    of labels; any other file holds one label a line.

    Raises:
        HeadError: it cannot be read, or is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Not splitlines, which also takes characters for line ends that a label may hold.
        values = json.loads(text) if path.suffix == ".json" else text.rstrip("\n").split("\n")
    except OSError as error:
        raise HeadError(
            f"{path}: cannot be read ({error.strerror}); give the label file of the head"
        ) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise HeadError(f"{path}: cannot be read ({error}); correct it") from error
    labels = _in_order(path, values) if isinstance(values, dict) else values
    if not (isinstance(labels, list) and labels and all(map(_is_label, labels))):
        raise HeadError(
            f"{path}: is no list of labels; write a JSON object from label to index, a JSON list, "
            "or a text file with one label a line"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise HeadError(f"{path}: names {twice!r} twice; name each label once")
    return tuple(labels)


def _is_label(value: object) -> bool:
    return isinstance(value, str) and is_class_name(value)


def _in_order(path: Path, values: dict[str, Any]) -> list[Any]:
    """Return the labels of an object, which side of it the indices are on."""
    if all(isinstance(value, int) for value in values.values()):
        by_index = {index: label for label, index in values.items()}
    elif all(key.isdecimal() for key in values):
        by_index = {int(key): label for key, label in values.items()}
    else:
        by_index = {}
    # Also where two labels have one index, and so one of them was lost above.
    if sorted(by_index) != list(range(len(values))):
        raise HeadError(
            f"{path}: its indices are not 0 to {len(values) - 1}, each for one label; correct them"
        )
    return [by_index[index] for index in range(len(values))]
