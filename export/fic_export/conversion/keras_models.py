"""Keras models in a form that converts: exportable layers, and large models in pieces.

Freezing and converting hold about twenty copies of the weights at once: for a base of 350 million
parameters 28 GB. Cut into segments, they are copies of one segment's weights.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


_BYTES = 32 << 20


def with_exportable_layers(model: "keras.Model") -> "keras.Model":
    """Return a model of the same function whose layers convert; the model itself if all do.

    A grouped convolution with a group for each channel (ConvNeXt) becomes a depthwise one: Keras
    compiles the former on its own, as a call that the converter cannot look into. A dense layer on
    a feature map becomes a convolution of one pixel, which needs no reshaping to computed shapes.
    Layers of mixed precision compute in float32.
    """
    import keras

    if not any(_needs_another_form(layer) for layer in _all_layers(model)):
        return model
    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any, prefix: str = "") -> Any:
        if isinstance(layer, keras.Sequential):
            return [clone(inner, f"{prefix}{layer.name}_") for inner in layer.layers]
        if isinstance(layer, keras.Model):
            return with_exportable_layers(layer)
        copy = _exportable(layer, prefix)
        pairs.append((layer, copy))
        return copy

    def call(copy: Any, *args: Any, **kwargs: Any) -> Any:
        # An inner Sequential is written out, so that the model can be cut within and around it.
        if isinstance(copy, list):
            return functools.reduce(lambda value, inner: call(inner, value), copy, *args)
        return copy(*args, **kwargs)

    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    clone_of_model = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer, copy in pairs:
        shapes = [tuple(weight.shape) for weight in getattr(copy, "weights", ())]
        if shapes:
            arrays = zip(layer.get_weights(), shapes, strict=True)
            copy.set_weights([array.reshape(shape) for array, shape in arrays])
    return clone_of_model


def split_model(model: "keras.Model") -> "list[keras.Model]":
    """Return models that, each given the output of the one before, compute what `model` does.

    A cut is made after each 32 MB of weights, where a single tensor is all that goes on and a
    convolution comes next, so that the changes of layout on both sides meet and cancel. A network
    that can be cut nowhere stays whole. The layers are shared, and nothing is added to them.
    """
    import keras

    class Segment(keras.Model):  # type: ignore[misc] # keras ships no types
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def call(self, inputs: Any) -> Any:
            return self.function(inputs)

    ends = [*_cuts(model), model.outputs[0]]
    starts = [model.inputs[0], *ends[:-1]]
    # keras.Function, as keras.Model would add nodes to the layers that lie between tensors.
    return [Segment(keras.Function(*pair)) for pair in zip(starts, ends, strict=True)]


def _all_layers(model: "keras.Model") -> list[Any]:
    import keras

    return [
        inner
        for layer in model.layers
        for inner in (_all_layers(layer) if isinstance(layer, keras.Model) else [layer])
    ]


def _needs_another_form(layer: Any) -> bool:
    mixed = layer.compute_dtype in ("float16", "bfloat16")
    return mixed or _is_grouped_by_channel(layer) or _is_dense_on_maps(layer)


def _is_grouped_by_channel(layer: Any) -> bool:
    import keras

    if not isinstance(layer, keras.layers.Conv2D) or layer.groups == 1:
        return False
    return bool(layer.kernel.shape[2] == 1)


def _is_dense_on_maps(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.Dense) and len(layer.output.shape) == 4


def _exportable(layer: Any, prefix: str) -> Any:
    import keras

    config = layer.get_config()
    config["name"] = prefix + config["name"]
    if "dtype" in config:
        config["dtype"] = "float32"
    common = {key: config.get(key) for key in ("name", "dtype", "activation", "use_bias")}
    if _is_grouped_by_channel(layer):
        same = ("kernel_size", "strides", "padding", "data_format", "dilation_rate")
        return keras.layers.DepthwiseConv2D(
            # Filter g * depth + m belongs to group g, so the kernel only changes its shape:
            # (height, width, 1, groups * depth) to (height, width, groups, depth).
            depth_multiplier=config["filters"] // config["groups"],
            **common,
            **{key: config[key] for key in same},
        )
    if _is_dense_on_maps(layer):
        return keras.layers.Conv2D(config["units"], 1, **common)
    return type(layer).from_config(config)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write erfc(x), of which TensorFlow makes GELU, as 1 - erf(x)."""
    source = graph.make_node("Erf", [node.input[0]], name=f"{name}_erf").output[0]
    one = graph.make_const(f"{name}_one", np.float32(1)).output[0]
    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    graph.remove_node(name)
    graph.make_node(
        "Sub", [one, source], name=name, outputs=node.output, shapes=[shape], dtypes=[dtype]
    )


# In tf2onnx's form: TensorFlow's operator, its handler, the handler's arguments.
OPERATOR_HANDLERS: dict[str, tuple[Any, list[str]]] = {"Erfc": (_erfc, [])}


def _cuts(model: "keras.Model") -> list[Any]:
    """Return the tensors at which to cut, in order."""
    import keras

    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    operations = keras.Function(model.inputs[0], model.outputs[0]).operations
    if any(isinstance(operation, keras.Model) for operation in operations):
        return []
    try:
        inputs = [_tensors(operation.input) for operation in operations]
        outputs = [_tensors(operation.output) for operation in operations]
    # An operation that is used more than once has no single input.
    except AttributeError:
        return []
    last_use = {id(tensor): index for index, used in enumerate(inputs) for tensor in used}
    sizes = [_size(operation) for operation in operations]
    cuts = []
    waiting: set[int] = set()
    here, left = 0, sum(sizes)
    for index, following in enumerate(operations[1:]):
        here, left = here + sizes[index], left - sizes[index]
        made = {id(tensor) for tensor in outputs[index]}
        waiting = {tensor for tensor in waiting | made if last_use.get(tensor, -1) > index}
        alone = len(waiting) == 1 and waiting == made
        if alone and isinstance(following, convolutions) and min(here, left) >= _BYTES:
            cuts.append(outputs[index][0])
            here = 0
    return cuts


def _tensors(structure: Any) -> list[Any]:
    import keras

    return list(keras.tree.flatten(structure))


def _size(operation: Any) -> int:
    """Return the bytes of an operation's weights in float32; many have none."""
    return sum(4 * math.prod(weight.shape) for weight in getattr(operation, "weights", ()))
