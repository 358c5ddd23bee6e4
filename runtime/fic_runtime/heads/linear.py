"""A linear head as one kernel and one bias, and as the bytes of an ONNX graph.

The graph is written in protobuf's wire format (protobuf.dev/programming-guides/encoding), for the
few fields of `onnx.proto` that a pool, a Gemm and a Softmax need.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle import CLASS_WEIGHTS_FILE, Bundle
from ..bundle.arrays import read_array_file
from ..bundle.manifest import FeatureMap
from ..errors import BundleError
from ..graphs.spec import GraphSpec, Tensor

_OPSET, _IR = 17, 8
_INT, _INTS = 2, 7  # AttributeProto.AttributeType
_FLOAT32 = 1  # TensorProto.DataType


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear head as it acts on the base's own features, its standardisation included.

    `kernel` is float32 (features, labels) and `bias` float32 (labels,). Of a softmax only
    differences between labels count, so the mean over the labels is taken off both.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits_by_location(
        self, features: NDArray[np.float32], feature_map: FeatureMap
    ) -> NDArray[np.float32]:
        """Return the logits at each location of a feature map, (n, h, w, labels)."""
        nchw = feature_map.layout == "nchw"
        channels_last = features.transpose(0, 2, 3, 1) if nchw else features
        logits: NDArray[np.float32] = channels_last @ self.kernel + self.bias
        return logits


def read_linear_head(bundle: Bundle) -> LinearHead | None:
    """Read the linear form of a bundle's head; None if it was exported without.

    Raises:
        BundleError: the file is damaged or does not fit the head.
    """
    if CLASS_WEIGHTS_FILE not in bundle.manifest.files:
        return None
    path = bundle.files.path(CLASS_WEIGHTS_FILE)
    features, labels = bundle.manifest.head.input.shape[-1] or 0, len(bundle.manifest.labels)
    most = 4 * (features + 1) * labels
    try:
        arrays = read_array_file(bundle.files, CLASS_WEIGHTS_FILE, most)
        weights = LinearHead(arrays["kernel"], arrays["bias"])
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    for array, shape in ((weights.kernel, (features, labels)), (weights.bias, (labels,))):
        if array.dtype != np.float32 or array.shape != shape:
            raise BundleError(
                f"{path}: holds {array.dtype} {array.shape} where the head has {shape}; "
                "export the bundle again"
            )
    return weights


def linear_graph(weights: LinearHead, spec: GraphSpec, labels: Sequence[str]) -> bytes:
    """Return the ONNX model that gives softmax(mean over the locations · kernel + bias).

    Args:
        weights: kernel (features, labels) and bias (labels,).
        spec: names and shapes of the input, (n, features) or (n, height, width, features), and of
            the output, (n, labels).
        labels: the class names, which the model holds in its `metadata_props`.
    """
    nodes, features = [], spec.input.name
    if len(spec.input.shape) > 2:
        axes = list(range(1, len(spec.input.shape) - 1))
        attributes = [_integers("axes", axes), _integer("keepdims", 0)]
        nodes.append(_node("ReduceMean", [features], "pooled", attributes))
        features = "pooled"
    nodes.append(_node("Gemm", [features, "kernel", "bias"], "logits", []))
    nodes.append(_node("Softmax", ["logits"], spec.output.name, [_integer("axis", -1)]))
    graph = b"".join(
        [
            *(_bytes(1, node) for node in nodes),
            _text(2, "head"),
            _bytes(5, _constant("kernel", weights.kernel)),
            _bytes(5, _constant("bias", weights.bias)),
            _bytes(11, _value(spec.input)),
            _bytes(12, _value(spec.output)),
        ]
    )
    properties = {
        "labels": json.dumps(list(labels), ensure_ascii=False),
        "names": repr(dict(enumerate(labels))),
        "task": "classify",
    }
    return b"".join(
        [
            _number(1, _IR),
            _text(2, "fic-runtime"),
            _bytes(7, graph),
            _bytes(8, _text(1, "") + _number(2, _OPSET)),
            *(_bytes(14, _text(1, key) + _text(2, value)) for key, value in properties.items()),
        ]
    )


def _node(operator: str, inputs: Iterable[str], output: str, attributes: Iterable[bytes]) -> bytes:
    names = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output)
    return names + _text(4, operator) + b"".join(_bytes(5, attribute) for attribute in attributes)


def _integer(name: str, value: int) -> bytes:
    return _text(1, name) + _number(3, value) + _number(20, _INT)


def _integers(name: str, values: Iterable[int]) -> bytes:
    return _text(1, name) + b"".join(_number(8, value) for value in values) + _number(20, _INTS)


def _constant(name: str, array: NDArray[np.float32]) -> bytes:
    sizes = b"".join(_number(1, size) for size in array.shape)
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return sizes + _number(2, _FLOAT32) + _text(8, name) + _bytes(9, data)


def _value(tensor: Tensor) -> bytes:
    sizes = (
        _bytes(1, _text(2, "n") if size is None else _number(1, size)) for size in tensor.shape
    )
    kind = _number(1, _FLOAT32) + _bytes(2, b"".join(sizes))
    return _text(1, tensor.name) + _bytes(2, _bytes(1, kind))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
