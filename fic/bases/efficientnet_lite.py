"""EfficientNet-Lite: EfficientNet for processors without much memory, and for int8.

Against EfficientNet it has no squeeze-and-excitation, ReLU6 in place of swish, and a stem, a head,
a first and a last stage that are the same at every scale (Tan and others, 2020, `efficientnet/lite`
in tensorflow/tpu). Keras does not have it. Layers are called as those of Keras's EfficientNet.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

# Width and depth of each network, as multiples of those below.
SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "EfficientNetLite0": (1.0, 1.0),
        "EfficientNetLite1": (1.0, 1.1),
        "EfficientNetLite2": (1.1, 1.2),
    }
)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STEM = 32
_HEAD = 1280
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def build(
    constructor: str, *, input_shape: tuple[int, int, int], pooling: str | None
) -> "keras.Model":
    """Return the network of this name in `SCALES`, with random weights and without classifier.

    Args:
        constructor: the name.
        input_shape: height, width and 3; float32 pixels, (x - 127) / 128.
        pooling: `avg`, `max` or None for the last feature map, as in `keras.applications`.
    """
    import keras

    width, depth = SCALES[constructor]
    pixels = keras.Input(input_shape, name="input_layer")
    features = _convolved(pixels, "stem", _STEM, kernel=3, strides=2)
    for number, stage in enumerate(_scaled(width, depth), 1):
        for repeat in range(stage.repeats):
            name = f"block{number}{chr(ord('a') + repeat)}_"
            features = _block(features, name, stage, strides=1 if repeat else stage.stride)
    features = _convolved(features, "top", _HEAD, kernel=1)
    if pooling == "avg":
        features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
    elif pooling == "max":
        features = keras.layers.GlobalMaxPooling2D(name="max_pool")(features)
    return keras.Model(pixels, features, name=constructor.lower())


def assign(model: "keras.Model", arrays: Sequence[Array]) -> None:
    """Give a network the arrays that PyTorch saved of one, in the order of its layers.

    The classifier at their end may be there or not; counters of batches must not.

    Raises:
        ValueError: they are those of another network.
    """
    layers = [layer for layer in model.layers if layer.weights]
    wanted = sum(len(layer.weights) for layer in layers)
    if len(arrays) not in (wanted, wanted + 2):
        raise ValueError(f"{len(arrays)} arrays where {wanted} are needed")
    remaining = iter(arrays)
    for layer in layers:
        values = [_as_keras_has_it(next(remaining), layer) for _ in layer.weights]
        if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
            raise ValueError(f"{layer.name} has another shape")
        layer.set_weights(values)


def _as_keras_has_it(array: Array, layer: Any) -> Array:
    """Return a kernel with its sides first; PyTorch has them last."""
    if array.ndim != 4:
        return array
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    # (channels, 1, height, width) and (outputs, inputs, height, width)
    return array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _scaled(width: float, depth: float) -> Iterator[_Stage]:
    for stage in _STAGES:
        ends = stage in (_STAGES[0], _STAGES[-1])
        yield _Stage(
            stage.repeats if ends else math.ceil(stage.repeats * depth),
            stage.kernel,
            stage.stride,
            stage.expansion,
            _rounded(stage.filters * width),
        )


def _rounded(filters: float) -> int:
    """Return the nearest multiple of 8, or the next one where that loses more than a tenth."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8


def _block(features: Any, name: str, stage: _Stage, *, strides: int) -> Any:
    """Return an inverted bottleneck: expand, filter each channel, project, add if it fits."""
    import keras

    inputs, outputs = features, features.shape[-1]
    if stage.expansion != 1:
        features = _convolved(features, f"{name}expand", outputs * stage.expansion, kernel=1)
    features = keras.layers.DepthwiseConv2D(
        stage.kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}dwconv",
    )(features)
    features = _activated(_normalized(features, f"{name}bn"), f"{name}activation")
    features = _convolved(features, f"{name}project", stage.filters, kernel=1, activation=False)
    if strides == 1 and outputs == stage.filters:
        features = keras.layers.Add(name=f"{name}add")([features, inputs])
    return features


def _convolved(
    features: Any,
    name: str,
    filters: int,
    *,
    kernel: int,
    strides: int = 1,
    activation: bool = True,
) -> Any:
    import keras

    features = keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_conv",
    )(features)
    features = _normalized(features, f"{name}_bn")
    return _activated(features, f"{name}_activation") if activation else features


def _normalized(features: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(epsilon=1e-3, name=name)(features)


def _activated(features: Any, name: str) -> Any:
    import keras

    return keras.layers.ReLU(6.0, name=name)(features)


def _initializer() -> Any:
    import keras

    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
