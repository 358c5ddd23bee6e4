"""Checks that two models, labels and preprocessing fit together, and what goes in and out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle import BASE_FILE, HEAD_FILE
from fic_runtime.bundle.labels import is_label
from fic_runtime.graphs.spec import GraphSpec, Tensor

from ..conversion.keras_to_onnx import BOTTLENECK, IMAGE, PROBABILITIES
from ..errors import OutputError
from ..options import KerasClassifier

if TYPE_CHECKING:
    import keras


def check_fit(classifier: KerasClassifier) -> None:
    """Check that base, head, labels and preprocessing go together.

    Raises:
        OutputError: a label is not one line of printable text.
        ValueError: they do not.
    """
    base, head, labels = classifier.base, classifier.head, classifier.labels
    for name, model in (("base", base), ("head", head)):
        # A Sequential without Input, or a subclass of Model, has no shapes before its first call.
        if not getattr(model, "inputs", None):
            raise ValueError(
                f"the {name}, {model.name}, does not say its input; give it a keras.Input"
            )
    geometry = classifier.preprocessing.geometry
    picture = (geometry.height, geometry.width, 3)
    if tuple(base.input_shape[1:]) != picture:
        raise ValueError(f"the base takes {base.input_shape[1:]}, preprocessing makes {picture}")
    if base.output_shape[1:] != head.input_shape[1:]:
        raise ValueError(f"the base gives {base.output_shape}, the head takes {head.input_shape}")
    if head.output_shape[1:] != (len(labels),):
        raise ValueError(f"the head gives {head.output_shape} for {len(labels)} labels")
    if len(set(labels)) != len(labels):
        raise ValueError(f"two labels are the same: {', '.join(sorted(labels))}")
    for label in labels:
        if not is_label(label):
            raise OutputError(
                f"the label {label!r} is not one line of printable text; rename the class"
            )


def check_pictures(pictures: Sequence[Any] | None, targets: Sequence[int] | None) -> None:
    """Check that there are pictures, unless drawn ones are wanted, and a target for each.

    Raises:
        ValueError: there are none, or not as many targets.
    """
    if pictures is not None and not pictures:
        raise ValueError("pictures is empty; give image files, or None to compare on drawn ones")
    if targets is not None and len(targets) != len(pictures or ()):
        raise ValueError(f"{len(targets)} targets do not go with {len(pictures or ())} pictures")


def base_spec(base: "keras.Model") -> GraphSpec:
    """Return file, input and output of the graph that the base becomes."""
    return _spec(BASE_FILE, IMAGE, "uint8", base.input_shape, BOTTLENECK, base.output_shape)


def head_spec(head: "keras.Model") -> GraphSpec:
    """Return file, input and output of the graph that the head becomes."""
    return _spec(
        HEAD_FILE, BOTTLENECK, "float32", head.input_shape, PROBABILITIES, head.output_shape
    )


def _spec(
    file: str,
    input_name: str,
    input_dtype: str,
    input_shape: Sequence[int | None],
    output_name: str,
    output_shape: Sequence[int | None],
) -> GraphSpec:
    return GraphSpec(
        file=file,
        input=Tensor(name=input_name, dtype=input_dtype, shape=(None, *input_shape[1:])),
        output=Tensor(name=output_name, dtype="float32", shape=(None, *output_shape[1:])),
    )
