"""Class activation maps: the feature map of the base's graph, and the class weights of the head."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fic_runtime.bundle import Bundle
from fic_runtime.bundle.manifest import FeatureMap, Layout
from fic_runtime.explaining import feature_map_of
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.spec import Tensor
from fic_runtime.heads.linear import LinearHead, read_linear_head
from fic_runtime.images import load_image

from ..errors import ConversionError, ParityError
from ..fits.softmax import softmax

if TYPE_CHECKING:
    import keras

FEATURE_MAP = "feature_map"
BOUND = 1e-4  # of any probability, between the head and the feature map with the class weights

_BATCH = 16
# What may stand between the pool and the end of the graph: it only changes shapes.
_IDLE = ("Squeeze", "Reshape", "Flatten", "Identity")


_WHICH = (
    "class activation maps need a linear head, such as `--head linear`: one dense layer with a "
    "softmax on the averaged features, and before it at most layers that scale them"
)


def check_pooling(base: "keras.Model", deployed: Bundle | None = None) -> None:
    """Check that the bottleneck is a feature map, or the mean of one over its locations.

    Args:
        deployed: the bundle whose base is taken as it is, which then must have its feature map.

    Raises:
        ConversionError: it is not.
    """
    if deployed is not None and deployed.manifest.feature_map is None:
        raise ConversionError(
            f"{deployed.path}: its base was exported without its feature map, so a head for it "
            "cannot explain; export the base again with --with-feature-map, or leave it out here"
        )
    if len(base.output_shape) != 4:
        _pooled_shape(base)


def expose_feature_map(
    graph: bytes | onnx.ModelProto, base: "keras.Model", bottleneck: Tensor
) -> tuple[bytes | onnx.ModelProto, FeatureMap]:
    """Return a base's graph with its feature map as the second output, and what that is.

    It comes as it lies in the graph, channels first or last, so no transposition is added. A
    bottleneck that is a feature map itself needs no other output.

    Raises:
        ConversionError: the bottleneck is not the mean of a feature map.
    """
    if len(bottleneck.shape) == 4:
        return graph, FeatureMap(output=bottleneck, layout="nhwc")
    height, width, channels = _pooled_shape(base)
    model = onnx.load_model_from_string(graph) if isinstance(graph, bytes) else graph
    pooled, layout = _pooled_tensor(model.graph)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [FEATURE_MAP if name == pooled else name for name in names]
    shape = (channels, height, width) if layout == "nchw" else (height, width, channels)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(FEATURE_MAP, onnx.TensorProto.FLOAT, ["n", *shape])
    )
    output = Tensor(name=FEATURE_MAP, dtype="float32", shape=(None, *shape))
    return model, FeatureMap(output=output, layout=layout)


def proved(bundle: Bundle, pictures: Sequence[Path]) -> FeatureMap:
    """Measure how far the head is from its class weights, at each location alone and averaged.

    Raises:
        ParityError: they are further apart than `BOUND`.
        ImageError: a picture cannot be read.
    """
    manifest, weights = bundle.manifest, read_linear_head(bundle)
    feature_map = manifest.feature_map
    if feature_map is None or weights is None:
        raise ValueError("the bundle has no feature map, or no class weights")
    base, head = (
        Graph(bundle.model(spec.file), device="cpu", further_outputs=further)
        for spec, further in (
            (manifest.base, len(manifest.further_outputs)),
            (manifest.head, 0),
        )
    )
    largest = 0.0
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        pixels = np.stack([load_image(path, manifest.preprocessing.geometry) for path in batch])
        features, bottlenecks = feature_map_of(base, pixels, feature_map)
        if manifest.quantization:
            # The mean of a rounded map is not the rounded mean; that the two belong together was
            # proved before they were rounded.
            logits = bottlenecks @ weights.kernel + weights.bias
        else:
            logits = weights.logits_by_location(features, feature_map).mean(axis=(1, 2))
        difference = np.abs(softmax(logits) - head.run(bottlenecks)).max()
        # Not a number is the worst there is.
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf)))
    if largest > BOUND:
        raise ParityError(
            f"the feature map and the class weights give probabilities that differ from the head's "
            f"by {largest:.2g} (at most {BOUND:.0e} is allowed); nothing was written, export "
            "without --with-feature-map and report it with the name of the base"
        )
    return replace(feature_map, pictures=len(pictures), largest_difference=largest)


def linear_head(head: "keras.Model", temperature: float = 1.0) -> LinearHead:
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
    return LinearHead(kernel.astype(np.float32), (bias - bias.mean()).astype(np.float32))


def write_linear_head(file: Path, weights: LinearHead) -> None:
    """Write the arrays `kernel`, float32 (features, labels), and `bias`, float32 (labels,)."""
    np.savez(file, kernel=weights.kernel, bias=weights.bias)


def _pooled_shape(base: "keras.Model") -> tuple[int, int, int]:
    """Return height, width and channels of the map of which the bottleneck is the mean."""
    import keras

    # As public as it gets: the layer that gave a tensor.
    last = base.outputs[0]._keras_history.operation
    if not isinstance(last, keras.layers.GlobalAveragePooling2D) or last.keepdims:
        raise ConversionError(
            f"{base.name} ends in {last.name}, and class activation maps need a bottleneck that is "
            "the average of a feature map (`--pooling avg`, and a base that does nothing after it)"
        )
    _, height, width, channels = last.input.shape
    return height, width, channels


def _pooled_tensor(graph: onnx.GraphProto) -> tuple[str, Layout]:
    """Return the name and layout of what the graph averages at its end."""
    producers = {name: node for node in graph.node for name in node.output}
    node: Any = producers[graph.output[0].name]
    while node.op_type in _IDLE:
        node = producers[node.input[0]]
    attributes = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    axes = sorted(axis % 4 for axis in attributes.get("axes", ()))
    if node.op_type == "GlobalAveragePool" or (node.op_type, axes) == ("ReduceMean", [2, 3]):
        return node.input[0], "nchw"
    if (node.op_type, axes) == ("ReduceMean", [1, 2]):
        return node.input[0], "nhwc"
    raise ConversionError(
        f"the base's graph ends in {node.op_type} and not in the average of a feature map, so it "
        "cannot be exported with one"
    )


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


def _float64(value: Any) -> NDArray[Any]:
    return np.asarray(value, dtype=np.float64)
