"""A linear head as one kernel and one bias on the base's own features, for explanations."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fic_runtime.heads.linear import ClassWeights

from ..errors import ConversionError

if TYPE_CHECKING:
    import keras

_WHICH = (
    "class activation maps need a linear head, such as `--head linear`: one dense layer with a "
    "softmax on the averaged features, and before it at most layers that scale them"
)


def class_weights(head: "keras.Model", temperature: float = 1.0) -> ClassWeights:
    """Return the weights of a linear head with everything around its dense layer folded in.

    Args:
        head: the head as it was trained.
        temperature: what its logits are divided by.

    The mean over the labels is taken off: it changes no probability, and what is left of the
    random start of the training lies in it.

    Raises:
        ConversionError: the head is not linear.
    """
    import keras

    layers = _chain(head)
    if len(head.inputs[0].shape) == 4:
        pool = layers.pop(0) if layers else None
        if not isinstance(pool, keras.layers.GlobalAveragePooling2D):
            raise ConversionError(f"the head does not average its feature map first; {_WHICH}")
    # As long as it is a vector the kernel stands for a diagonal matrix.
    kernel: Any = np.ones(head.inputs[0].shape[-1])
    bias: Any = np.zeros(head.inputs[0].shape[-1])
    activation = "linear"
    for layer in layers:
        if activation != "linear":
            raise ConversionError(f"the head goes on after its {activation}; {_WHICH}")
        if isinstance(layer, keras.layers.Dense):
            weight = _float64(layer.kernel)
            kernel = kernel[:, None] * weight if kernel.ndim == 1 else kernel @ weight
            bias = bias @ weight + (_float64(layer.bias) if layer.use_bias else 0.0)
            activation = layer.activation.__name__
        elif isinstance(layer, keras.layers.Activation):
            activation = layer.activation.__name__
        elif isinstance(layer, keras.layers.Softmax):
            activation = "softmax"
        else:
            scale, offset = _scaling(layer)
            kernel, bias = kernel * scale, bias * scale + offset
    if activation != "softmax" or kernel.ndim == 1:
        raise ConversionError(f"the head does not end in a dense layer with a softmax; {_WHICH}")
    kernel, bias = kernel / temperature, bias / temperature
    kernel -= kernel.mean(axis=1, keepdims=True)
    return ClassWeights(kernel.astype(np.float32), (bias - bias.mean()).astype(np.float32))


def write_class_weights(file: Path, weights: ClassWeights) -> None:
    """Write the arrays `kernel`, float32 (features, labels), and `bias`, float32 (labels,)."""
    np.savez(file, kernel=weights.kernel, bias=weights.bias)


def _chain(head: "keras.Model") -> list[Any]:
    """Return the layers of a head in which each takes what the one before gives."""
    import keras

    layers = [layer for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)]
    tensor = head.inputs[0]
    for layer in layers:
        if layer.input is not tensor:
            raise ConversionError(f"the head's {layer.name} takes a way of its own; {_WHICH}")
        tensor = layer.output
    return layers


def _scaling(layer: Any) -> tuple[Any, Any]:
    """Return scale and offset of a layer that changes each feature on its own."""
    import keras

    if isinstance(layer, keras.layers.Dropout):
        return 1.0, 0.0
    if isinstance(layer, keras.layers.Rescaling):
        return _float64(layer.scale), _float64(layer.offset)
    if isinstance(layer, keras.layers.Normalization) and not layer.invert:
        # As Keras does it: no deviation counts as less than its epsilon.
        deviation = np.maximum(np.sqrt(_float64(layer.variance)), keras.config.epsilon())
        return (1 / deviation).ravel(), (-_float64(layer.mean) / deviation).ravel()
    if isinstance(layer, keras.layers.BatchNormalization):
        deviation = np.sqrt(_float64(layer.moving_variance) + layer.epsilon)
        scale = (_float64(layer.gamma) if layer.scale else 1.0) / deviation
        offset = _float64(layer.beta) if layer.center else 0.0
        return scale, offset - _float64(layer.moving_mean) * scale
    raise ConversionError(f"the head has a {type(layer).__name__} layer; {_WHICH}")


def _float64(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value, dtype=np.float64)
