"""What the converter does not know, said in words that it knows.

Two ways, both its or Keras's own: layers are swapped by cloning the model, operators are given a
handler. Nothing installed is changed.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


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
