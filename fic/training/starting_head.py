"""The head that a training starts from: a new one, or one that was trained before."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bases.opening import AnyBase
from ..errors import HeadError, RunError, one_line
from ..fingerprint import Fingerprint
from ..heads.building import Statistics, parse_head, rest_head
from ..heads.custom import custom_head
from ..heads.dense import DenseHead, Head, build_dense
from ..heads.dense_files import read_dense, read_weights, to_keras
from ..heads.keras_files import WEIGHTS_SUFFIX, open_head
from ..options import TrainingOptions
from ..runs import Run
from ..runs.run import HEAD_FILE
from .data import TrainingData

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierHead:
    """The head of `--load-weights`: a run folder, or a file of a head or of its weights.

    Raises:
        HeadError: the path holds neither, or does not go with the other options.
    """

    path: Path
    extend_classes: bool = False

    @classmethod
    def of(cls, options: TrainingOptions) -> "EarlierHead | None":
        """Return the head that the options name, checked as far as possible without Keras."""
        if options.load_weights is None:
            if options.extend_classes:
                raise HeadError("--extend-classes: needs --load-weights with a run folder")
            return None
        earlier = cls(options.load_weights, options.extend_classes)
        if not (earlier.path.is_dir() or earlier.path.is_file()):  # a pipe has no end
            raise HeadError(f"{earlier.path}: no such run folder or file of a head's weights")
        if options.extend_classes and earlier.run is None:
            raise HeadError(
                f"{earlier.path}: a file does not say which classes it knows; --extend-classes "
                "needs --load-weights with the run folder"
            )
        if options.head is not None and not earlier.is_weights_only:
            raise HeadError(
                f"--head {options.head}: the head comes whole from {earlier.path}; leave --head out"
            )
        return earlier

    @cached_property
    def run(self) -> Run | None:
        """The run, if the path is a run folder."""
        return Run(self.path) if self.path.is_dir() else None

    @property
    def is_weights_only(self) -> bool:
        """Whether the file does not say what kind of head it belongs to."""
        return self.path.name.endswith(WEIGHTS_SUFFIX)

    @property
    def is_dense(self) -> bool:
        """Whether it is a linear or mlp head, which needs no Keras."""
        file = self.path if self.run is None else self.path / HEAD_FILE
        return read_dense(file) is not None

    def labels(self, found: Sequence[str]) -> tuple[str, ...]:
        """Return the labels of a head that continues this one on a data set with those `found`.

        Raises:
            HeadError: they are not those that the run knows, and may not be added to it.
        """
        if self.run is None:
            return tuple(found)
        known = self.run.labels
        if self.extend_classes:
            return tuple(sorted({*known, *found}))
        if known != tuple(found):
            new, gone = sorted(set(found) - set(known)), sorted(set(known) - set(found))
            difference = "; ".join(
                f"{what} {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
                for what, names in (("it does not know", new), ("the data set lacks", gone))
                if names
            )
            raise HeadError(
                f"{self.path}: was trained on other classes: {difference or 'in another order'}; "
                "give --extend-classes to keep what it knows and add the new ones, or train "
                "without --load-weights"
            )
        return known

    def load(self, fingerprint: Fingerprint, labels: Sequence[str]) -> Head:
        """Return the head for `labels`, ready to be trained on.

        Raises:
            HeadError: it cannot be loaded or does not fit the bottlenecks or the classes.
        """
        if self.run is None:
            return open_head(self.path, fingerprint, labels)
        try:
            earlier = self.run.frozen_base().fingerprint
            head = self.run.quick_head()
        except RunError as error:
            raise HeadError(str(error)) from error
        _check_same_base(self.path, earlier, fingerprint)
        if self.run.labels == tuple(labels):
            return head
        if isinstance(head, DenseHead):
            return _dense_with_labels(head, self.run.labels, labels)
        return _with_labels(head, self.run.labels, labels, self.path)


def starting_head(train: TrainingData, base: AnyBase, options: TrainingOptions) -> Head:
    """Return the head that the options ask for, untrained or as `load_weights` has it.

    Raises:
        HeadError: it cannot be built, loaded or exported, or does not fit.
        BaseOptionError: the rest of the base cannot be a head.
    """
    earlier = EarlierHead.of(options)
    if earlier is not None and not earlier.is_weights_only:
        if not earlier.is_dense:
            _seed_keras(options.seed)
        return earlier.load(base.fingerprint, train.labels)
    choice = parse_head(options.head or "linear")
    if choice.kind in ("linear", "mlp"):
        statistics = statistics_of(train)
        dense = build_dense(choice, train.shape, len(train.labels), statistics, seed=options.seed)
        return dense if earlier is None else _with_weights(dense, earlier.path)
    _seed_keras(options.seed)
    if choice.file is not None:
        head = custom_head(choice.file, choice.function, train.shape, len(train.labels))
    else:
        rest = base.build_rest()
        head = rest_head(rest, len(train.labels), statistics_of(train, rest))
    if earlier is not None:
        if choice.kind == "rest":
            _warn_of_statistics(earlier.path)
        _load_weights(head, earlier.path)
    return head


def _seed_keras(seed: int) -> None:
    """Seed the weights of new layers, and dropout, whose seed is drawn when a head is loaded."""
    # Keras comes with TensorFlow, whose import costs seconds: only where the head needs it.
    import keras

    keras.utils.set_random_seed(seed)


def _check_same_base(path: Path, earlier: Fingerprint, now: Fingerprint) -> None:
    # The type on disk makes a difference in the fourth digit only.
    if replace(earlier, dtype=now.dtype) == now:
        return
    names = ("base", "tensor", "pooling", "preprocessing", "weights", "shape")
    other = next(name for name in names if getattr(earlier, name) != getattr(now, name))
    raise HeadError(
        f"{path}: was trained on the bottlenecks of another base: its {other} is "
        f"{getattr(earlier, other)} and here it is {getattr(now, other)}; "
        "give the same options of the base, or train without --load-weights"
    )


def _with_labels(
    head: "keras.Model", known: Sequence[str], labels: Sequence[str], path: Path
) -> "keras.Model":
    """Return the head with an output for each class; those that it knew keep their weights."""
    import keras

    dense = [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]
    last = dense[-1] if dense else None
    if last is None or last.units != len(known):
        raise HeadError(
            f"{path}: its head does not end in a dense layer of {len(known)} units, so no class "
            "can be added; train without --load-weights"
        )

    def wider(layer: Any) -> Any:
        config = layer.get_config()
        if layer is last:
            config["units"] = len(labels)
        return type(layer).from_config(config)

    wide = keras.models.clone_model(head, clone_function=wider)
    index_of = {label: index for index, label in enumerate(labels)}
    indices = [index_of[label] for label in known]
    for old, new in zip(head.layers, wide.layers, strict=True):
        arrays = old.get_weights()
        if old is last:
            # A new class starts with no opinion: no weights, and the mean bias of the others.
            kernel, *bias = arrays
            arrays = [_spread(kernel, indices, np.zeros((len(kernel), len(labels)), np.float32))]
            arrays += [
                _spread(array, indices, np.full(len(labels), array.mean())) for array in bias
            ]
        new.set_weights(arrays)
    return wide


def _dense_with_labels(head: DenseHead, known: Sequence[str], labels: Sequence[str]) -> DenseHead:
    """Do the same as `_with_labels` for a head of dense layers."""
    index_of = {label: index for index, label in enumerate(labels)}
    indices = [index_of[label] for label in known]
    *hidden, kernel, bias = head.weights
    wide_kernel = np.zeros((len(kernel), len(labels)), np.float32)
    wide_bias = np.full(len(labels), bias.mean())
    wide = (_spread(kernel, indices, wide_kernel), _spread(bias, indices, wide_bias))
    return replace(head, weights=(*hidden, *wide))


def _spread(array: NDArray[Any], indices: Sequence[int], into: NDArray[Any]) -> NDArray[Any]:
    into[..., indices] = array
    return into


def _with_weights(head: DenseHead, path: Path) -> DenseHead:
    _warn_of_statistics(path)
    if (loaded := read_weights(head, path)) is not None:
        return loaded
    # A file of Keras 2, or one that does not fit: Keras reads the one and says so of the other.
    model = to_keras(head)
    _load_weights(model, path)
    return head.with_weights(model.get_weights())


def _warn_of_statistics(path: Path) -> None:
    log.warning(
        "%s: holds no statistics of the bottlenecks; those of these pictures are used", path
    )


def _load_weights(head: "keras.Model", path: Path) -> None:
    try:
        head.load_weights(path)
    except Exception as error:  # Keras raises a different class for each way not to fit
        raise HeadError(
            f"{path}: does not hold the weights of this head ({one_line(error)}); give the --head "
            "that they belong to"
        ) from error


def statistics_of(train: TrainingData, model: "keras.Model | None" = None) -> Statistics:
    """Return mean and variance of each feature of the bottlenecks, maps averaged first.

    With `model`, of the features that it makes of the bottlenecks.
    """
    total, squares, count = np.zeros(()), np.zeros(()), 0
    with closing(train.for_statistics()) as blocks:
        for block in blocks:
            made = block if model is None else np.asarray(model.predict_on_batch(block))
            features = made.mean(axis=tuple(range(1, made.ndim - 1)), dtype=np.float64)
            total = total + features.sum(axis=0)
            squares = squares + np.square(features).sum(axis=0)
            count += len(features)
    mean = total / count
    return Statistics(mean=mean, variance=np.maximum(squares / count - np.square(mean), 0.0))
