"""What is done to a converted graph: cures, preprocessing in front, and names that repeat."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fic_runtime.preprocessing import Preprocessing

from ..errors import ConversionError


def join(graphs: Sequence[onnx.GraphProto]) -> onnx.GraphProto:
    """Return one graph that runs the others one after the other, each of one input and output."""
    joined = onnx.GraphProto()
    joined.input.append(graphs[0].input[0])
    joined.output.append(graphs[-1].output[0])
    joined.output[0].name = f"{len(graphs) - 1}/{joined.output[0].name}"
    passed_on = joined.input[0].name
    for number, graph in enumerate(graphs):
        names = {"": "", graph.input[0].name: passed_on}
        for tensor in graph.initializer:
            names[tensor.name] = tensor.name = f"{number}/{tensor.name}"
        for node in graph.node:
            for name in node.output:
                names[name] = f"{number}/{name}"
            node.input[:] = [names[name] for name in node.input]
            node.output[:] = [names[name] for name in node.output]
        passed_on = names[graph.output[0].name]
        joined.initializer.extend(graph.initializer)
        joined.node.extend(graph.node)
    return joined


def cancel_transposes(graph: onnx.GraphProto) -> None:
    """Let nodes read past a `Transpose` that undoes another, as they meet where graphs are joined.

    The nodes that nobody reads any more stay until `canonicalize`.
    """
    transposes = {node.output[0]: node for node in graph.node if node.op_type == "Transpose"}
    past = {}
    for name, node in transposes.items():
        before = transposes.get(node.input[0])
        if before is not None:
            first, second = (list(transpose.attribute[0].ints) for transpose in (before, node))
            if [first[axis] for axis in second] == sorted(first):
                past[name] = before.input[0]
    for node in graph.node:
        node.input[:] = [past.get(name, name) for name in node.input]


def skip_identities_of_constants(graph: onnx.GraphProto) -> None:
    """Let nodes read a constant itself and not its copy, which exporters make of shared ones."""
    constants = {tensor.name for tensor in graph.initializer}
    past: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [past.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.input[0] in constants:
            past[node.output[0]] = node.input[0]


def skip_idle_reshapes(converted: onnx.ModelProto) -> None:
    """Let nodes read past a `Reshape` that changes nothing.

    The converter leaves one now and then, in an order that hangs on memory addresses, so the same
    model would give other bytes each time. The emptied nodes stay until `canonicalize`.
    """
    shapes = _shapes(converted)
    past: dict[str, str] = {}
    for node in converted.graph.node:
        node.input[:] = [past.get(name, name) for name in node.input]
        if node.op_type == "Reshape" and node.output[0] != converted.graph.output[0].name:
            before, after = (shapes.get(name) for name in (node.input[0], node.output[0]))
            # The first is the batch, which is free; where all others agree, it agrees too.
            if before and after and before[1:] == after[1:] and all(before[1:]):
                past[node.output[0]] = node.input[0]


def protect_padded_pools(graph: onnx.GraphProto) -> None:
    """Put `Max(x, lowest float)`, which changes nothing, between a zero `Pad` and a `MaxPool`.

    ONNX Runtime's Pad_Fusion (microsoft/onnxruntime#18136) moves the padding into the pool, where
    it counts as minus infinity and not as zero, so ResNetV2 is silently wrong by 10 %. The `Max`
    is in its way, and costs nothing that can be measured.
    """
    producers = {name: node for node in graph.node for name in node.output}
    lowest = "lowest_float"
    cured = False
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        above = producers.get(pool.input[0])
        while above is not None and above.op_type in ("Transpose", "Identity"):
            above = producers.get(above.input[0])
        if above is None or above.op_type != "Pad":
            continue
        output = f"{pool.input[0]}_protected"
        graph.node.append(helper.make_node("Max", [pool.input[0], lowest], [output]))
        pool.input[0] = output
        cured = True
    if cured:
        value = np.array(np.finfo(np.float32).min, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(value, lowest))


def fold_into_convolutions(graph: onnx.GraphProto) -> None:
    """Move a scale and a shift per channel that follow a `Conv` into its weights and bias.

    They are what batch normalization in inference mode comes to. ONNX Runtime does the same each
    time that it loads a graph; done here, loading is faster, and quantizers and other runtimes see
    plain convolutions. The nodes that it empties stay until `canonicalize`.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    convolutions: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type == "Conv" and all(name in constants for name in node.input[1:]):
            convolutions[node.output[0]] = node
        source = next((name for name in node.input if name in convolutions), "")
        if node.op_type not in ("Mul", "Add") or uses[source] != 1:
            continue
        convolution = convolutions[source]
        kernel, *bias = (numpy_helper.to_array(constants[name]) for name in convolution.input[1:])
        other = next((name for name in node.input if name in constants), "")
        values = _per_channel(constants.get(other), channels=len(kernel))
        if values is None:
            continue
        shift = bias[0] if bias else np.zeros(len(kernel), kernel.dtype)
        if node.op_type == "Mul":
            kernel, shift = kernel * values.reshape(-1, 1, 1, 1), shift * values
        else:
            shift = shift + values
        folded = node.output[0]
        for array, name in ((kernel, f"{folded}_kernel"), (shift, f"{folded}_bias")):
            constants[name] = numpy_helper.from_array(array, name)
        convolution.input[1:] = [f"{folded}_kernel", f"{folded}_bias"]
        convolution.output[0] = folded
        convolutions[folded] = convolution
        node.output[0] = f"{folded}_emptied"
    del graph.initializer[:]
    graph.initializer.extend(constants.values())


def fold_pads(graph: onnx.GraphProto) -> None:
    """Move zero `Pad` nodes into the convolutions, and some of the pools, that follow them.

    ONNX Runtime does it too, but not between quantize nodes, where a float `Pad` would be left. A
    pool pads with minus infinity, which is the same as with zeros after a ReLU only.
    """
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims
    }
    producers = {node.output[0]: node for node in graph.node}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        if node.op_type not in ("Conv", "MaxPool"):
            continue
        pad = producers.get(node.input[0])
        between = None
        if node.op_type == "MaxPool" and pad is not None and pad.op_type == "Max":
            # What `protect_padded_pools` put there.
            between, pad = pad, producers.get(pad.input[0])
        if pad is None or pad.op_type != "Pad":
            continue
        above = producers.get(pad.input[0])
        if node.op_type == "MaxPool" and (above is None or above.op_type != "Relu"):
            continue
        sides = _spatial_zeros(pad, constants)
        if sides is None or not _add_pads(node, sides):
            continue
        node.input[0] = pad.input[0]
        for idle in (between, pad):
            if idle is not None:
                uses[idle.output[0]] -= 1
                if not uses[idle.output[0]]:
                    graph.node.remove(idle)


def take_float(graph: onnx.GraphProto) -> None:
    """Let a graph of uint8 pixels take the same numbers as float32.

    Raises:
        ConversionError: it does more with them than to reorder and to cast them.
    """
    pixels = graph.input[0]
    pixels.type.tensor_type.elem_type = TensorProto.FLOAT
    alike, cast = {pixels.name}, {}
    for node in _in_order_of_use(graph):
        if not alike & set(node.input):
            continue
        if node.op_type in ("Transpose", "Gather"):  # layout and order of the channels
            alike.add(node.output[0])
        elif node.op_type == "Cast":
            if node.attribute[0].i == TensorProto.FLOAT:
                cast[node.output[0]] = node.input[0]
        else:
            raise ConversionError(
                f"the graph has a {node.op_type} on uint8 pixels and cannot take float32; export "
                "without it and report the base"
            )
    for node in graph.node:
        node.input[:] = [cast.get(name, name) for name in node.input]


def prepend_preprocessing(graph: onnx.GraphProto, preprocessing: Preprocessing) -> None:
    """Put the pixel numbers in front, and make the input uint8 RGB (n, height, width, 3).

    Numbers that change nothing leave no node.
    """
    pixels = preprocessing.pixels
    geometry = preprocessing.geometry
    (old,) = graph.input
    current = name = "image"
    steps = []

    def step(operator: str, *inputs: str, **attributes: Any) -> None:
        nonlocal current
        output = f"{name}_{operator.lower()}"
        steps.append(helper.make_node(operator, [current, *inputs], [output], **attributes))
        current = output

    def constant(values: Sequence[float], key: str, dtype: type) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=dtype), key))
        return key

    if pixels.channel_order == "bgr":
        step("Gather", constant((2, 1, 0), "bgr_order", np.int64), axis=3)
    step("Cast", to=TensorProto.FLOAT)
    if pixels.scale != (1.0, 1.0, 1.0):
        step("Mul", constant(_shared(pixels.scale), "pixel_scale", np.float32))
    if pixels.offset != (0.0, 0.0, 0.0):
        step("Add", constant(_shared(pixels.offset), "pixel_offset", np.float32))
    steps[-1].output[0] = old.name
    for index, node in enumerate(steps):
        graph.node.insert(index, node)
    shape: list[str | int | None] = ["n", geometry.height, geometry.width, 3]
    old.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))


def _shared(values: Sequence[float]) -> Sequence[float]:
    # One number, where it is that of all channels: repeated along an axis of 3 it takes ONNX
    # Runtime ten times as long, a fifth of the time of a small base.
    return values[:1] if len(set(values)) == 1 else values


def canonicalize(graph: onnx.GraphProto, *, input_name: str, output_name: str) -> None:
    """Name the input and the first output; order all else by use, and name it by kind and number.

    Further outputs keep their names.

    The converter's own order and names hang on hash seeds and counters of the process, so the
    same model would give other bytes, and another digest, each time.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {"": "", graph.input[0].name: input_name}
    names |= {further.name: further.name for further in graph.output[1:]}
    counts: Counter[str] = Counter()

    def name(old: str, kind: str) -> str:
        if old not in names:
            counts[kind] += 1
            names[old] = f"{kind}_{counts[kind]}"
        return names[old]

    nodes = _in_order_of_use(graph)
    used = []
    for node in nodes:
        used += [old for old in node.input if old in constants and old not in names]
        node.input[:] = [name(old, "constant") for old in node.input]
        node.output[:] = [name(old, node.op_type.lower()) for old in node.output]
        node.name = node.output[0]
        node.doc_string = ""
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(attributes)
    tensors = [constants[old] for old in dict.fromkeys(used)]
    for tensor in tensors:
        tensor.name = names[tensor.name]
    last = names[graph.output[0].name]
    for node in nodes:
        for ends in (node.input, node.output):
            ends[:] = [output_name if end == last else end for end in ends]
    for field, values in ((graph.node, nodes), (graph.initializer, tensors)):
        del field[:]
        field.extend(values)
    del graph.value_info[:]
    for end, new in ((graph.input[0], input_name), (graph.output[0], output_name)):
        end.name = new
        end.type.tensor_type.shape.dim[0].dim_param = "n"


def fold_temperature(head: onnx.ModelProto, temperature: float) -> None:
    """Divide the logits of a head's graph by the temperature, in its weights where that is exact.

    Raises:
        ConversionError: the graph does not end in a softmax.
    """
    if temperature == 1.0:
        return
    graph = head.graph
    makers = {name: node for node in graph.node for name in node.output}
    last = makers[graph.output[0].name]
    if last.op_type != "Softmax":
        raise ConversionError(
            f"the head ends in {last.op_type} and not in a softmax, so its probabilities have no "
            "temperature; export without calibration"
        )
    folded = _linear_weights(graph, makers.get(last.input[0]), makers)
    if folded:
        for initializer in folded:
            values = numpy_helper.to_array(initializer) / np.float32(temperature)
            initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
        return
    factor = numpy_helper.from_array(np.array(1 / temperature, np.float32), "inverse_temperature")
    graph.initializer.append(factor)
    scaled = helper.make_node("Mul", [last.input[0], factor.name], ["calibrated_logits"])
    last.input[0] = scaled.output[0]
    graph.node.insert(list(graph.node).index(last), scaled)


def _spatial_zeros(pad: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> list[int] | None:
    """Return how many zeros a `Pad` adds to height and width, begins and then ends.

    None if it does anything else.
    """
    if any(item.name == "mode" and item.s != b"constant" for item in pad.attribute):
        return None
    sizes = constants.get(pad.input[1])
    value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(())
    if sizes is None or value is None or value.any() or len(pad.input) > 3:
        return None
    begins, ends = np.split(sizes, 2)
    if begins[:2].any() or ends[:2].any() or sizes.min() < 0:
        return None
    return [*begins[2:].tolist(), *ends[2:].tolist()]


def _add_pads(node: onnx.NodeProto, sides: list[int]) -> bool:
    """Let a node pad by itself, if it may be told how."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    automatic = attributes.get("auto_pad")
    if automatic is not None and automatic.s != b"NOTSET":
        return False
    if node.op_type == "MaxPool" and (
        any(attributes["pads"].ints if "pads" in attributes else ())
        or max(sides) >= min(attributes["kernel_shape"].ints)
    ):
        return False  # a window might hold nothing but padding
    if "pads" in attributes:
        old = list(attributes["pads"].ints)
        attributes["pads"].ints[:] = [a + b for a, b in zip(old, sides, strict=True)]
    else:
        node.attribute.append(helper.make_attribute("pads", sides))
    return True


def _shapes(converted: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the inferred shape of each value, 0 for a dimension that is free."""
    skeleton = onnx.ModelProto()
    skeleton.ir_version = converted.ir_version
    skeleton.opset_import.extend(converted.opset_import)
    graph = skeleton.graph
    graph.node.extend(converted.graph.node)
    graph.input.extend(converted.graph.input)
    graph.output.extend(converted.graph.output)
    for tensor in converted.graph.initializer:
        # Inference needs the values of shapes only; without the weights it is quick.
        if tensor.data_type == TensorProto.FLOAT:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
        else:
            graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(skeleton).graph
    return {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }


def _per_channel(tensor: onnx.TensorProto | None, *, channels: int) -> np.ndarray | None:
    """Return a constant that broadcasts over (n, channels, height, width) as one value each."""
    if tensor is None:
        return None
    array = numpy_helper.to_array(tensor)
    if array.size == 1:
        return np.full(channels, array.reshape(()), array.dtype)
    shape = (1,) * (4 - array.ndim) + array.shape
    return array.ravel() if shape == (1, channels, 1, 1) else None


def _in_order_of_use(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs need, each after those that it needs, its first first.

    The last one is that of the first output.
    """
    producers = {name: node for node in graph.node for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[str] = set()
    # Not recursive: deep networks would exceed Python's limit.
    stack = [producers[output.name] for output in graph.output]
    while stack:
        node = stack[-1]
        waiting = [producers[name] for name in node.input if name in producers and name not in done]
        if waiting:
            stack.append(waiting[0])
            continue
        stack.pop()
        if node.output[0] not in done:
            done.update(node.output)
            ordered.append(node)
    return [_copy(node) for node in ordered]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    # Clearing the graph's list empties the messages that it owned.
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _linear_weights(
    graph: onnx.GraphProto, node: onnx.NodeProto | None, makers: dict[str, onnx.NodeProto]
) -> list[onnx.TensorProto]:
    """Return the weights and bias of a last linear layer, or nothing if others use them too."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = [name for other in graph.node for name in other.input]

    def own(name: str) -> bool:
        return name in constants and uses.count(name) == 1

    if node is None or uses.count(node.output[0]) != 1:
        return []
    if node.op_type == "Gemm":
        names = list(node.input[1:])
    elif node.op_type == "Add":
        bias = [name for name in node.input if name in constants]
        products = [makers[name] for name in node.input if name in makers]
        if len(bias) != 1 or len(products) != 1 or products[0].op_type != "MatMul":
            return []
        if uses.count(products[0].output[0]) != 1:
            return []
        names = [products[0].input[1], *bias]
    elif node.op_type == "MatMul":
        names = [node.input[1]]
    else:
        return []
    return [constants[name] for name in names] if all(map(own, names)) else []
