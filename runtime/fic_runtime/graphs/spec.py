"""What a graph takes and gives. Only the standard library is needed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Name, element type and shape of a graph's input or output; `None` is the batch."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item of the batch."""
        return tuple(size for size in self.shape if size is not None)


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One ONNX file of the bundle with its single input and single output."""

    file: str
    input: Tensor
    output: Tensor
