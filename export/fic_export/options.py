"""What an export takes: the classifier, and how its bundle is made and checked.

Only the standard library is needed, so that a command line can take its defaults from here.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import keras

    from fic_runtime.heads.statistics import ClassStatistics
    from fic_runtime.preprocessing import Preprocessing

    from .fits.out_of_distribution import FittedScore
    from .fits.temperature import Calibration

Scheme = Literal["int8", "fp16"]
Purpose = Literal["speed", "size"]
MAX_ACCURACY_DROP = 0.01
TRITON_NAME = "classifier"
KERAS = "Keras"

Options = TypeVar("Options", bound=Any)  # a frozen dataclass, which has no type of its own


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a bundle must keep to be written.

    Attributes:
        max_difference: largest difference of any probability between Keras and the runtime.
        min_agreement: share of the pictures for which both name the same class.
        min_accuracy: share of the pictures whose class the runtime must name; None asks for none.
    """

    max_difference: float = 1e-3
    min_agreement: float = 1.0
    min_accuracy: float | None = None


class ReferenceBase(Protocol):
    """What a bundle's base is compared with where no Keras model is: the graph as it was given.

    Attributes:
        name: what messages call it.
        inputs: its inputs.
        input_shape: (None, height, width, 3).
        output_shape: None and the shape of one bottleneck.
    """

    name: str
    inputs: Sequence[Any]
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]

    def bottlenecks(self, pixels: Any) -> Any:
        """Return float32 bottlenecks of uint8 RGB pixels (n, height, width, 3)."""


@dataclass(frozen=True, kw_only=True)
class KerasClassifier:
    """Two Keras models, the names of their answers, and how a picture becomes their input.

    Attributes:
        base: from float32 pixels in its own scale, (n, height, width, 3), to bottleneck; or what
            gives the bottlenecks of a graph that was no Keras model.
        head: from bottleneck to probabilities, (n, labels).
        labels: class names in the order of the head's outputs, each one line of text.
        preprocessing: how a picture becomes the base's input.
    """

    base: "keras.Model | ReferenceBase"
    head: "keras.Model"
    labels: tuple[str, ...]
    preprocessing: "Preprocessing"

    @property
    def reference(self) -> str:
        """What messages call that which a bundle is compared with."""
        return str(self.base.name) if hasattr(self.base, "bottlenecks") else KERAS


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """How a bundle is made and checked, and what it holds beside the classifier.

    Attributes:
        pictures: real image files on which the bundle is compared with the Keras models. Without
            them it is compared on drawn pictures, and the manifest says so; give some that look
            like those to come wherever you can.
        targets: for each of `pictures` the index of its label, to measure the accuracy of both.
        bounds: how far the bundle may be from the Keras models.
        progress: called with the number of pictures just compared.
        base_graph: ONNX graph of the base if it was converted before, or its file, which may have
            its weights beside it.
        deployed: bundle whose base is taken as it is, to the byte, instead of a converted one.
        quantize: write the base in fewer bits, `int8` or `fp16`, if it keeps its accuracy and, for
            `int8`, gains speed; the head stays float32.
        quantize_for: `size` takes an int8 base that is not faster on this machine.
        calibration_files: pictures for the ranges of int8, best of the training; by default
            `pictures`.
        max_accuracy_drop: how much accuracy a quantized base may lose on `pictures`; without
            `targets`, for which share of them it may name another class. The bounds on difference
            and agreement do not count where the base of `deployed` is quantized.
        calibration: temperature by which the head's graph divides its logits.
        ood_score: what tells pictures like those of the training from others; see
            `fic_export.fits.out_of_distribution`.
        teaching: what lets a device learn more classes; see `fic_export.fits.teaching`.
        with_feature_map: let the bundle explain its answers: `base.onnx` has its last feature map
            as a second output, and `class_weights.npz` holds what the head makes of it.
        single_graph: write base and head fused in one file, `classifier.onnx`, as well; it gives
            the score for unknown pictures, too, if the bundle has one.
        with_bottleneck: let that file give the bottleneck as well.
        float_input: let that file take float32 pixels, 0..255, instead of uint8.
        sign: PEM file with the private key that signs the bundle; see `fic_export.signing`.
        origin: where the base comes from, for the manifest.
        metrics: what the training measured, for the manifest.
    """

    pictures: Sequence[str | os.PathLike[str]] | None = None
    targets: Sequence[int] | None = None
    bounds: Bounds = Bounds()
    progress: Callable[[int], None] | None = None
    base_graph: bytes | Path | None = None
    deployed: str | os.PathLike[str] | None = None
    quantize: Scheme | None = None
    quantize_for: Purpose = "speed"
    calibration_files: Sequence[str | os.PathLike[str]] | None = None
    max_accuracy_drop: float = MAX_ACCURACY_DROP
    calibration: "Calibration | None" = None
    ood_score: "FittedScore | None" = None
    teaching: "ClassStatistics | None" = None
    with_feature_map: bool = False
    single_graph: bool = False
    with_bottleneck: bool = False
    float_input: bool = False
    sign: str | os.PathLike[str] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """What the head's logits are divided by."""
        return 1.0 if self.calibration is None else self.calibration.temperature


def filled(
    options: Options, keywords: Mapping[str, Any], *, function: str, former: Mapping[str, str]
) -> Options:
    """Return options with the keywords of a call in their fields; None leaves a field as it is.

    Args:
        options: a frozen dataclass.
        keywords: values by the names of its fields.
        function: name of the function that was called with them.
        former: names that fields once had, which are taken as well.

    Raises:
        TypeError: a keyword is not a field, or a field is given by both of its names.
    """
    known = {item.name for item in fields(options)}
    values: dict[str, Any] = {}
    for keyword, value in keywords.items():
        name = former.get(keyword, keyword)
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {keyword!r}")
        if value is None:
            continue
        if name in values:
            raise TypeError(f"{function}() got multiple values for argument {name!r}")
        values[name] = value
    return replace(options, **values)
