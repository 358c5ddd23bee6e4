"""Options of each step, and their defaults.

The command line fills these classes, and a run writes them into `run.json`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from fic_export.options import MAX_ACCURACY_DROP, TRITON_NAME, Bounds, Purpose, Scheme
from fic_runtime.preprocessing import Resize

EngineName = Literal["auto", "onnx", "keras"]
Pooling = Literal["avg", "max", "cls", "none"]
PixelNumbers = Literal["imagenet", "symmetric", "clip", "unit", "raw"]
CacheDtype = Literal["float32", "float16"]
Compression = Literal["none", "gzip"]
SkipOrFail = Literal["skip", "fail"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]
ClassWeights = Literal["none", "balanced"]
Monitor = Literal["loss", "accuracy"]

StrPath: TypeAlias = str | os.PathLike[str]
_PathOrNone = TypeVar("_PathOrNone")

VAL_SPLIT = 0.2
"""Share of each class for validation unless given."""

# Of a head that starts from nothing.
LEARNING_RATES: Mapping[Optimizer, float] = MappingProxyType(
    {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2, "rmsprop": 1e-3}
)
# The rest of a base is pretrained, and large steps would undo that.
_REST_SHARE = 0.1


class AnyPath(Generic[_PathOrNone]):
    """A field of a dataclass that takes a path of any kind and gives it as a `Path`, or None."""

    def __init__(self, default: _PathOrNone) -> None:
        self._default: _PathOrNone = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> _PathOrNone:
        if instance is None:
            return self._default
        value: _PathOrNone = instance.__dict__[self._name]
        return value

    def __set__(self, instance: object, value: StrPath | _PathOrNone) -> None:
        if isinstance(value, str) and "://" in value:
            raise ValueError(f"{self._name}: give fic.data.remote.location(URL)")  # not folded
        path = value if value is None or isinstance(value, Path) else Path(value)  # type: ignore[arg-type] # None or a path
        instance.__dict__[self._name] = path


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """Base, weights, cut and preprocessing.

    Attributes:
        base_model: a name from `fic bases`, a file that ends in `.onnx` or `.keras`, or
            `hf://ORG/NAME[@REVISION][:PATH]` of the Hugging Face hub.
        weights: `imagenet`, `none` (random, the same every time), or a file of Keras weights; a
            file or repository brings its own.
        image_size: side of the square input in pixels; by default the base's own.
        resize: how a picture becomes square; by default the base's own way.
        layer: name of the layer whose output is the bottleneck, or of any tensor of an ONNX graph;
            by default the last one before the classifier of ImageNet, or what publishers call it.
        pooling: pooling of a feature map, or of tokens, into a vector; `cls` takes the first of
            several tokens, `none` keeps all.
        pixels: what a pixel must become for a base in a file, where no config of its publisher
            says it.
        preprocessor: that config, if it is not beside the file.
    """

    base_model: str = "efficientnet_lite0"
    weights: str = "imagenet"
    image_size: int | None = None
    resize: Resize | None = None
    layer: str | None = None
    pooling: Pooling = "avg"
    pixels: PixelNumbers | None = None
    preprocessor: str | None = None

    def __post_init__(self) -> None:
        # A path is taken as well; its text tells it from the two names.
        object.__setattr__(self, "weights", os.fspath(self.weights))
        _check_choices(self)

    def absolute(self) -> "BaseOptions":
        """Return the same options with files that are found from every working folder."""
        options = self
        if self.weights not in ("imagenet", "none"):
            options = replace(options, weights=str(Path(self.weights).absolute()))
        if self.preprocessor is not None:
            options = replace(options, preprocessor=str(Path(self.preprocessor).absolute()))
        return options


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Extraction and caching of bottlenecks.

    Attributes:
        bottleneck_dir: folder of the cache; any number of data sets and bases may share it.
        batch_size: pictures in one pass through the base.
        engine: runner of the base; `auto` takes the faster one that works here.
        dtype: element type on disk; `float16` halves the size.
        compression: of the shards; `gzip` makes feature maps smaller and slower to read.
        views: versions of each training picture; the first is the plain one.
        on_error: whether a picture that cannot be read is left out or ends the run.
        recompute: extract all bottlenecks of the pictures again, those in the cache too.
        ray: address of a Ray cluster that extracts, `auto` for the one of this machine, `local`
            for a new one; None extracts in this process.
    """

    bottleneck_dir: AnyPath[Path] = AnyPath(Path("bottlenecks"))
    batch_size: int = 16
    engine: EngineName = "auto"
    dtype: CacheDtype = "float32"
    compression: Compression = "none"
    views: int = 1
    on_error: SkipOrFail = "skip"
    recompute: bool = False
    ray: str | None = None

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_least(self, batch_size=1, views=1)

    @property
    def memo(self) -> Path:
        """The file that remembers the digests of unchanged pictures."""
        return self.bottleneck_dir / "files.sqlite"

    @property
    def thumbnails(self) -> Path:
        """The file that remembers thumbnails for reports."""
        return self.bottleneck_dir / "thumbnails.sqlite"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Training of the head, and fine-tuning.

    Attributes:
        head: `linear`, `mlp`, `mlp:UNITS,DROPOUT`, `rest` (of the base, after the bottleneck), or
            `FILE.py:FUNCTION`; by default linear, or what `load_weights` holds.
        load_weights: where the head's first weights come from: a run folder, a Keras file of a
            whole head, or a `.weights.h5` of one like `head`.
        extend_classes: whether the data set may have other classes than the run of
            `load_weights`; those it knew keep their weights.
        epochs: maximum number of passes over the training bottlenecks; 0 only evaluates.
        batch_size: bottlenecks in one step.
        optimizer: of Keras; sgd has a momentum of 0.9.
        learning_rate: of the optimizer; by default 0.01 for sgd and 0.001 for the others, and a
            tenth of that for the head `rest`.
        weight_decay: weight decay of the head: half its squared weights times this is added to
            the loss (L2). For adamw it is the optimizer's own, in each step this times
            the learning rate. The layers of the base do not decay.
        class_weights: weights of the classes in the loss; `balanced` makes up for rare classes.
        label_smoothing: share of the target that is spread evenly over all classes.
        monitor: the validation figure that decides which epoch is kept.
        patience: epochs without improvement before training stops; 0 never stops early.
        seed: random seed for the split of `--data`, initial weights and shuffling.
        logs: folder for TensorBoard events, or nowhere.
        omit_bottlenecks: send every picture through the base in every epoch, augmented anew,
            instead of keeping its bottleneck in the cache.
        fine_tune: how many of the base's last layers are trained further after the head, counted
            without BatchNormalization and layers that have no weights; 0 leaves the base alone.
        fine_tune_learning_rate: of the Adam optimizer in fine-tuning.
        fine_tune_epochs: maximum number of passes over the training pictures in fine-tuning.
    """

    head: str | None = None
    load_weights: AnyPath[Path | None] = AnyPath(None)
    extend_classes: bool = False
    epochs: int = 50
    batch_size: int = 32
    optimizer: Optimizer = "adam"
    learning_rate: float | None = None
    weight_decay: float = 0.05
    class_weights: ClassWeights = "none"
    label_smoothing: float = 0.0
    monitor: Monitor = "loss"
    patience: int = 10
    seed: int = 0
    logs: AnyPath[Path | None] = AnyPath(None)
    omit_bottlenecks: bool = False
    fine_tune: int = 0
    fine_tune_learning_rate: float = 1e-4
    fine_tune_epochs: int = 5

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_least(self, epochs=0, batch_size=1, patience=0, seed=0, fine_tune=0)
        _check_least(self, weight_decay=0, label_smoothing=0, fine_tune_epochs=1)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} is above 0; received {rate!r}")
        if not self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is below 1; received {self.label_smoothing!r}")

    def resolved(self) -> "TrainingOptions":
        """Return the same options with the defaults that depend on others, and whole paths."""
        share = _REST_SHARE if self.head == "rest" else 1.0
        rate = self.learning_rate or LEARNING_RATES[self.optimizer] * share
        file, colon, function = (self.head or "").rpartition(":")
        custom = colon and file.endswith(".py")
        return replace(
            self,
            head=f"{Path(file).absolute()}:{function}" if custom else self.head,
            learning_rate=rate,
            load_weights=self.load_weights and self.load_weights.absolute(),
            logs=self.logs and self.logs.absolute(),
        )


@dataclass(frozen=True, kw_only=True)
class ReliabilityOptions:
    """What is fitted on a run's cached bottlenecks before it is exported.

    Attributes:
        calibrate: fit a temperature, and keep it if it helps.
        known: fit a score that tells pictures like those of the training from others.
        foreign: folder of pictures that show none of the classes; drawn ones by default.
        false_rejection: share of pictures like the validation's that may be called unknown.
    """

    calibrate: bool = True
    known: bool = True
    foreign: AnyPath[Path | None] = AnyPath(None)
    false_rejection: float = 0.05


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported of a run, what it is compared on, and what else is written.

    Attributes:
        head_only: write the head alone, some kilobytes for a base that is deployed already.
        deployed: with `head_only`, the bundle that has the base; by default the head fits the
            base that `export_run` writes for the run.
        max_difference: largest difference of any probability between Keras and the bundle.
        min_agreement: share of the pictures for which both must name the same class.
        min_accuracy: share of the pictures whose class the bundle must name; None asks for none.
        max_pictures: number of pictures to compare on at most, taken from each class in turn.
        data: folder or CSV file of pictures to compare on instead of the run's validation
            pictures; of a CSV file with the column `split`, those marked `val`.
        reliability: temperature and score for unknown pictures.
        with_feature_map: let the bundle explain its answers (`Classifier.explain`).
        teachable: let a device learn more classes (`Classifier.teach`).
        quantize: write the base in fewer bits, `int8` or `fp16`; the head stays float32.
        quantize_for: `speed` refuses int8 that is not faster on this machine; `size` takes it.
        max_accuracy_drop: accuracy that a quantized base may lose, or a head on a `deployed` base
            that is quantized; the bounds on difference and agreement do not count there.
        max_calibration_pictures: number of training pictures on which the ranges of int8 are
            measured at most, taken from each class in turn.
        calibration_data: folder or CSV file of training pictures, if the run's have moved.
        single_graph: write base and head fused in one file as well, with the score for unknown
            pictures if there is one.
        with_bottleneck: let that file, and the ensemble of `triton`, give the bottleneck as well.
        float_input: let that file take float32 pixels, 0..255, instead of uint8.
        triton: folder for a model repository of NVIDIA's Triton Inference Server as well.
        triton_name: name of the ensemble in that repository.
        sign: PEM file with the private key that signs the bundle.
        bottleneck_dir: cache that holds or gets the converted base, if not the run's own.

    Raises:
        OptionsError: two of them do not go together.
    """

    head_only: bool = False
    deployed: AnyPath[Path | None] = AnyPath(None)
    max_difference: float = Bounds.max_difference
    min_agreement: float = Bounds.min_agreement
    min_accuracy: float | None = Bounds.min_accuracy
    max_pictures: int = 200
    data: AnyPath[Path | None] = AnyPath(None)
    reliability: ReliabilityOptions = field(default_factory=ReliabilityOptions)
    with_feature_map: bool = False
    teachable: bool = False
    quantize: Scheme | None = None
    quantize_for: Purpose = "speed"
    max_accuracy_drop: float = MAX_ACCURACY_DROP
    max_calibration_pictures: int = 128
    calibration_data: AnyPath[Path | None] = AnyPath(None)
    single_graph: bool = False
    with_bottleneck: bool = False
    float_input: bool = False
    triton: AnyPath[Path | None] = AnyPath(None)
    triton_name: str = TRITON_NAME
    sign: AnyPath[Path | None] = AnyPath(None)
    bottleneck_dir: AnyPath[Path | None] = AnyPath(None)

    def __post_init__(self) -> None:
        if self.deployed is not None and not self.head_only:
            raise OptionsError("{deployed} is for {head_only}: a whole bundle has its own base")
        if self.with_bottleneck and not self.single_graph and self.triton is None:
            raise OptionsError(
                "{with_bottleneck} is for {single_graph} and {triton}: a bundle gives it anyway"
            )
        if self.float_input and not self.single_graph:
            raise OptionsError("{float_input} is for {single_graph}: a bundle takes uint8")
        if not self.head_only:
            return
        if self.single_graph:
            raise OptionsError("{single_graph} is for a whole bundle: a head has no base to fuse")
        if self.triton is not None:
            raise OptionsError("{triton} is for a whole bundle: a head has no base to serve")
        if self.quantize is not None:
            raise OptionsError("{quantize} is for a whole bundle: a head has no base to quantize")

    @property
    def bounds(self) -> Bounds:
        """How far the bundle may be from the Keras models."""
        return Bounds(
            max_difference=self.max_difference,
            min_agreement=self.min_agreement,
            min_accuracy=self.min_accuracy,
        )


class OptionsError(ValueError):
    """Two options do not go together.

    Attributes:
        text: the message with the fields in braces, for callers that know them by other names.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text.replace("{", "").replace("}", ""))


def _check_choices(options: object) -> None:
    """Refuse a word that is none of those of its field, which would be taken for another."""
    for name, hint in get_type_hints(type(options)).items():
        kinds = [hint, *get_args(hint)]
        words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
        value = getattr(options, name)
        if words and value not in words and not (value is None and type(None) in kinds):
            raise ValueError(f"{name} is one of {', '.join(words)}; received {value!r}")


def _check_least(options: object, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(options, name)
        if not value >= bound:
            raise ValueError(f"{name} is at least {bound}; received {value!r}")
