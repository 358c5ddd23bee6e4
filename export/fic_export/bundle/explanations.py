"""The base's last feature map as a second output of its graph, for explanations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from fic_runtime.bundle import Bundle
from fic_runtime.bundle.manifest import FeatureMap, Layout
from fic_runtime.explaining import feature_map_of
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.spec import Tensor
from fic_runtime.heads.linear import ClassWeights
from fic_runtime.images import load_image

from ..errors import ConversionError, ParityError

if TYPE_CHECKING:
    import keras

FEATURE_MAP = "feature_map"
BOUND = 1e-4  # of any probability, between the head and the feature map with the class weights

_BATCH = 16
# What may stand between the pool and the end of the graph: it only changes shapes.
_IDLE = ("Squeeze", "Reshape", "Flatten", "Identity")


def check_pooling(base: "keras.Model", deployed: Bundle | None = None) -> None:
    """Make sure that the bottleneck is a feature map, or the mean of one over its places.

    Args:
        deployed: the bundle whose base is taken as it is, which then must have its feature map.

    Raises:
        ConversionError: it is not.
    """
    if deployed is not None and deployed.manifest.feature_map is None:
        raise ConversionError(
            f"{deployed.place}: its base was exported without its feature map, so a head for it "
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


def proved(bundle: Bundle, weights: ClassWeights, pictures: Sequence[Path]) -> FeatureMap:
    """Measure how far the head is from its parts, each place alone and averaged, and note it.

    Raises:
        ParityError: they are further apart than `BOUND`.
        ImageError: a picture cannot be read.
    """
    manifest = bundle.manifest
    feature_map = manifest.feature_map
    if feature_map is None:
        raise ValueError("the manifest tells of no feature map")
    base, head = (
        Graph(bundle.files.model(spec.file), device="cpu", further_outputs=further)
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
            logits = weights.logits_by_place(features, feature_map).mean(axis=(1, 2))
        difference = np.abs(_softmax(logits) - head.run(bottlenecks)).max()
        # Not a number is the worst there is.
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf)))
    if largest > BOUND:
        raise ParityError(
            f"the feature map and the class weights give probabilities that differ from the head's "
            f"by {largest:.2g} (at most {BOUND:.0e} is allowed); nothing was written, export "
            "without --with-feature-map and report it with the name of the base"
        )
    return replace(feature_map, pictures=len(pictures), largest_difference=largest)


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
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    axes = sorted(axis % 4 for axis in attributes.get("axes", ()))
    if node.op_type == "GlobalAveragePool" or (node.op_type, axes) == ("ReduceMean", [2, 3]):
        return node.input[0], "nchw"
    if (node.op_type, axes) == ("ReduceMean", [1, 2]):
        return node.input[0], "nhwc"
    raise ConversionError(
        f"the base's graph ends in {node.op_type} and not in the average of a feature map, so it "
        "cannot be exported with one"
    )


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
