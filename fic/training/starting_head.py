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
from ..heads.building import Statistics, build_head, parse_head
from ..heads.keras_files import WEIGHTS_SUFFIX, load_head
from ..options import TrainingOptions
from ..runs import Run
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
        if not earlier.path.exists():
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

    def load(self, fingerprint: Fingerprint, labels: Sequence[str]) -> "keras.Model":
        """Return the head for `labels`, ready to be trained on.

        Raises:
            HeadError: it cannot be loaded or does not fit the bottlenecks or the classes.
        """
        if self.run is None:
            return load_head(self.path, fingerprint, labels)
        try:
            earlier = self.run.frozen_base().fingerprint
            head = self.run.head()
        except RunError as error:
            raise HeadError(str(error)) from error
        _check_same_base(self.path, earlier, fingerprint)
        if self.run.labels == tuple(labels):
            return head
        return _with_labels(head, self.run.labels, labels, self.path)


def starting_head(train: TrainingData, base: AnyBase, options: TrainingOptions) -> "keras.Model":
    """Return the head that the options ask for, untrained or as `load_weights` has it.

    Raises:
        HeadError: it cannot be built, loaded or exported, or does not fit.
        BaseOptionError: the rest of the base cannot be a head.
    """
    earlier = EarlierHead.of(options)
    if earlier is not None and not earlier.is_weights_only:
        return earlier.load(base.fingerprint, train.labels)
    choice = parse_head(options.head or "linear")
    rest = base.build_rest() if choice.kind == "rest" else None
    statistics = None if choice.kind == "custom" else _statistics(train, rest)
    head = build_head(choice, train.shape, len(train.labels), statistics=statistics, rest=rest)
    if earlier is None:
        return head
    if statistics is not None:
        log.warning(
            "%s: holds no statistics of the bottlenecks; those of these pictures are used",
            earlier.path,
        )
    _load_weights(head, earlier.path)
    return head


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


def _spread(array: NDArray[Any], indices: Sequence[int], into: NDArray[Any]) -> NDArray[Any]:
    into[..., indices] = array
    return into


def _load_weights(head: "keras.Model", path: Path) -> None:
    try:
        head.load_weights(path)
    except Exception as error:  # Keras raises a different class for each way not to fit
        raise HeadError(
            f"{path}: does not hold the weights of this head ({one_line(error)}); give the --head "
            "that they belong to"
        ) from error


def _statistics(train: TrainingData, model: "keras.Model | None") -> Statistics:
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
