"""A model in pieces that can be converted one after the other.

Freezing and converting hold about twenty copies of the weights at once: for a base of 350 million
parameters 28 GB. Cut into segments, they are copies of one segment's weights.
"""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_BYTES = 32 << 20


def segments(model: "keras.Model") -> "list[keras.Model]":
    """Return models that, each given the output of the one before, compute what `model` does.

    A cut is made after each 32 MB of weights, where a single tensor is all that goes on and a
    convolution comes next, so that the changes of layout on both sides meet and cancel. A network
    that has no such place stays whole. The layers are shared, and nothing is added to them.
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
    last_use = {id(tensor): place for place, used in enumerate(inputs) for tensor in used}
    sizes = [_size(operation) for operation in operations]
    cuts = []
    waiting: set[int] = set()
    here, left = 0, sum(sizes)
    for place, following in enumerate(operations[1:]):
        here, left = here + sizes[place], left - sizes[place]
        made = {id(tensor) for tensor in outputs[place]}
        waiting = {tensor for tensor in waiting | made if last_use.get(tensor, -1) > place}
        alone = len(waiting) == 1 and waiting == made
        if alone and isinstance(following, convolutions) and min(here, left) >= _BYTES:
            cuts.append(outputs[place][0])
            here = 0
    return cuts


def _tensors(structure: Any) -> list[Any]:
    import keras

    return list(keras.tree.flatten(structure))


def _size(operation: Any) -> int:
    """Return the bytes of an operation's weights in float32; many have none."""
    return sum(4 * math.prod(weight.shape) for weight in getattr(operation, "weights", ()))
