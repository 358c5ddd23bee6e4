"""Heads to be trained, from a bottleneck to the probabilities of the classes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import HeadError

if TYPE_CHECKING:
    import keras

BOTTLENECK = "bottleneck"
PROBABILITIES = "probabilities"
# As it stands in heads that were saved earlier.
STANDARDIZE = "standardise"

_FORMS = "linear, mlp, mlp:UNITS, mlp:UNITS,DROPOUT, rest, or FILE.py:FUNCTION"
_MOST_UNITS = 1 << 16  # of a hidden layer, which then has hundreds of megabytes


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The kind of a head, as `--head` names it.

    Attributes:
        kind: `linear`; `mlp`, with one hidden layer; `rest`, the rest of the base and then linear;
            `custom`, a function of the user.
        units: width of the hidden layer of `mlp`.
        dropout: share of the hidden layer that is left out in each training step.
        file: where the function of `custom` is.
        function: its name.
    """

    kind: Literal["linear", "mlp", "rest", "custom"]
    units: int = 256
    dropout: float = 0.3
    file: Path | None = None
    function: str = ""


def parse_head(text: str) -> HeadChoice:
    """Parse the value of `--head`.

    Raises:
        HeadError: it has another form.
    """
    if text == "linear":
        return HeadChoice(kind="linear")
    if text == "rest":
        return HeadChoice(kind="rest")
    if match := re.fullmatch(r"mlp(?::(?P<units>\d{1,9})(?:,(?P<dropout>\d*\.?\d+))?)?", text):
        given = {name: value for name, value in match.groupdict().items() if value is not None}
        choice = HeadChoice(
            kind="mlp",
            units=int(given.get("units", HeadChoice.units)),
            dropout=float(given.get("dropout", HeadChoice.dropout)),
        )
        if not 1 <= choice.units <= _MOST_UNITS or not choice.dropout < 1:
            raise HeadError(
                f"head {text!r}: needs 1 to {_MOST_UNITS} units and a dropout below 1; give others"
            )
        return choice
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py") and function.isidentifier():
        return HeadChoice(kind="custom", file=Path(file), function=function)
    raise HeadError(f"head {text!r} is not known; give {_FORMS}")


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Mean and variance of each feature over the training bottlenecks, both (features,)."""

    mean: NDArray[Any]
    variance: NDArray[Any]


def scaled(statistics: Statistics) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Return a scale for bottlenecks, and mean and variance to standardize them by after it."""
    # In units of the typical deviation, because Keras takes a deviation below 1e-7 for zero and
    # the bottlenecks of random weights are as small as 1e-18.
    unit = float(np.sqrt(statistics.variance.mean())) or 1.0
    # One unit on top, so that a feature that hardly ever moves is not blown up to the size of the
    # others: 1 to 3 points of accuracy on the flowers (docs/why/training.md).
    mean, variance = statistics.mean / unit, statistics.variance / unit**2 + 1.0
    return 1 / unit, mean.astype(np.float32), variance.astype(np.float32)


def rest_head(rest: "keras.Model", classes: int, statistics: Statistics) -> "keras.Model":
    """Return an untrained head that begins with the remaining part of the base.

    Args:
        rest: from bottleneck to vector.
        classes: number of outputs.
        statistics: of the vectors that `rest` makes of the training bottlenecks.
    """
    import keras

    scale, mean, variance = scaled(statistics)
    features = rest.outputs[0]
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    features = keras.layers.Rescaling(scale, name="unit")(features)
    features = keras.layers.Normalization(mean=mean, variance=variance, name=STANDARDIZE)(features)
    outputs = keras.layers.Dense(classes, activation="softmax", name=PROBABILITIES)(features)
    return keras.Model(rest.inputs[0], outputs, name="head")
