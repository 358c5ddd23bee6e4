"""A head outside a run: one Keras file and one file of labels, as scripts keep them."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle.labels import is_label
from fic_runtime.reading import read_regular

from ..bases.opening import AnyBase, open_base
from ..errors import HeadError, one_line
from ..options import BaseOptions, CacheOptions
from .dense import Head
from .keras_files import load_head, open_head

if TYPE_CHECKING:
    import keras


_MOST_BYTES = 1 << 26  # of a label file: a million labels fit
_MOST_DIGITS = 18  # of an index


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
        """Cache that keeps the converted base."""
        return CacheOptions(bottleneck_dir=self.bottleneck_dir)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the head's outputs."""
        return read_labels(self.label_file)

    def frozen_base(self) -> AnyBase:
        """Return the base that the head is to be used with."""
        return self._base

    @cached_property
    def _base(self) -> AnyBase:
        return open_base(self.base_options, self.bottleneck_dir)

    def head(self) -> "keras.Model":
        """Load the head.

        Raises:
            HeadError: it cannot be read, or does not fit the labels or the base.
        """
        return load_head(self.weight_file, self._base.fingerprint, self.labels)

    def quick_head(self) -> Head:
        """Load the head, without Keras where it is a linear or mlp one.

        Raises:
            HeadError: see `head`.
        """
        return open_head(self.weight_file, self._base.fingerprint, self.labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a label file, in the order of the head's outputs.

    A `.json` file holds an object from label to index, an object from index to label, or a list
    of labels; any other file holds one label a line.

    Raises:
        HeadError: it cannot be read, or has another form.
    """
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        # Not splitlines, which also takes characters for line ends that a label may hold.
        values = json.loads(text) if path.suffix == ".json" else text.rstrip("\n").split("\n")
    except OSError as error:
        raise HeadError(
            f"{path}: cannot be read ({error.strerror}); give the label file of the head"
        ) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise HeadError(f"{path}: cannot be read ({one_line(error)}); correct it") from error
    except RecursionError:
        raise HeadError(
            f"{path}: cannot be read (its values are nested too deeply); correct it"
        ) from None
    labels = _in_order(path, values) if isinstance(values, dict) else values
    if not (isinstance(labels, list) and labels and all(map(_is_label, labels))):
        raise HeadError(
            f"{path}: is not a list of labels; write a JSON object from label to index, a JSON "
            "list, or a text file with one label a line"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label, count in Counter(labels).items() if count > 1)
        raise HeadError(f"{path}: names {twice!r} twice; name each label once")
    return tuple(labels)


def _is_label(value: object) -> bool:
    return isinstance(value, str) and is_label(value)


def _in_order(path: Path, values: dict[str, Any]) -> list[Any]:
    """Return the labels of an object from label to index, or from index to label."""
    if all(isinstance(value, int) for value in values.values()):
        by_index = {index: label for label, index in values.items()}
    elif all(key.isdecimal() and len(key) <= _MOST_DIGITS for key in values):
        by_index = {int(key): label for key, label in values.items()}
    else:
        by_index = {}
    # Also where two labels have one index, and so one of them was lost above.
    if sorted(by_index) != list(range(len(values))):
        raise HeadError(
            f"{path}: its indices are not 0 to {len(values) - 1}, each for one label; correct them"
        )
    return [by_index[index] for index in range(len(values))]
