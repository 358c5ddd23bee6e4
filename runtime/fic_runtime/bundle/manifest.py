"""The bundle's `manifest.json`: everything the runtime must know to serve two ONNX graphs.

Written by `fic_export`, read here; both sides share these classes, so there is one schema. The
format is described in `docs/reference/bundle-format.md`. Only the standard library is needed.
"""

import errno
import json
import math
import os
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..errors import BundleError, one_line
from ..graphs.spec import GraphSpec, Tensor
from ..preprocessing import Preprocessing
from .files import BundleFiles
from .labels import is_label
from .names import alike, is_file_name

Layout = Literal["nchw", "nhwc"]

FORMAT = 1
MANIFEST_FILE = "manifest.json"
# Fields that came after the first bundles are written only where they say something.
_LATER = {"calibration", "feature_map", "head_only", "known", "quantization", "single_graph"}
# With a thousand classes a manifest has some 100 kB, and 12 MB with their confusion matrix. What
# Python makes of it is larger: 70 bytes of an empty list.
MOST_BYTES = 16 << 20
_MOST_VALUES = 3_000_000
_MOST_LISTS = 1_000_000
_DEEPEST = 16
_MOST_LABELS = 200_000
_MOST_CHARACTERS = 1000  # of a label, a name or a digest
MOST_SIDE = 1 << 14  # of the base's input, in pixels
MOST_PIXELS = 1 << 24
MOST_FEATURES = 1 << 24  # of a bottleneck or a feature map: 67 MB
_MOST_AXES = 8
_GRAPH_SUFFIX = ".onnx"


@dataclass(frozen=True, kw_only=True)
class Known:
    """How a bundle tells pictures like those of the training from others.

    Attributes:
        method: name of the score; see `fic_runtime.heads.ood_scores`.
        threshold: a picture of a higher score is not known.
        file: the file with the numbers of the score; None if it needs none.
        false_rejection: share of pictures like those of the validation that may be past it.
        figures: how the methods did at export, to be shown.
    """

    method: str
    threshold: float
    file: str | None
    false_rejection: float
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """The base's last feature map, whose mean over its locations is the bottleneck.

    `output` of the base's graph has the layout `nchw` or `nhwc`. `pictures` and
    `largest_difference` (of any probability) say how far the head, applied to each location alone
    and averaged, was from the head itself when the bundle was written.
    """

    output: Tensor
    layout: Layout
    pictures: int = 0
    largest_difference: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle holds.

    `labels` are in the order of the head's outputs. `files` maps every other file of the bundle
    to its SHA-256 in hex. With `head_only` the bundle is a head for a base that is deployed
    already: the files of the base are not in it, only their digests are. `origin` says which base
    the bottlenecks come from, `parity` how far the bundle was from the Keras models when it was
    written, `metrics` what the run measured, `versions` what it was made with, `single_graph` the
    file in which both graphs are fused, if there is one, `calibration` the temperature that is in
    the head already; the runtime shows these and does not depend on them. `quantization` says what
    became of a base in fewer bits, and how far a device may be from `golden.npz` with it. `known`
    says how outliers are told; None if nothing was fitted for it. `feature_map`
    is there where the bundle can explain its answers.
    """

    format: int = FORMAT
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    base: GraphSpec
    head: GraphSpec
    files: Mapping[str, str]
    head_only: bool = False
    feature_map: FeatureMap | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    single_graph: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    known: Known | None = None

    @property
    def base_files(self) -> dict[str, str]:
        """The base's graph, and its weights if they lie beside it, with their digests."""
        return {
            file: digest
            for file, digest in self.files.items()
            if file == self.base.file
            or file.startswith((f"{self.base.file}.", f"{self.base.file}_"))
        }

    @property
    def own_files(self) -> dict[str, str]:
        """The files that are in the bundle, with their digests."""
        if not self.head_only:
            return dict(self.files)
        return {file: digest for file, digest in self.files.items() if file not in self.base_files}

    @property
    def further_outputs(self) -> tuple[Tensor, ...]:
        """The outputs of the base's graph besides the bottleneck."""
        if self.feature_map is None or self.feature_map.output.name == self.base.output.name:
            return ()
        return (self.feature_map.output,)

    def to_json(self) -> str:
        """Return the manifest as the text of `manifest.json`, the same for the same values.

        Raises:
            ValueError: a figure is infinite or not a number, for which JSON has no form.
        """
        values = {
            name: value for name, value in asdict(self).items() if value or name not in _LATER
        }
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # The name of a picture may be no text: JSON has the same escape for its bytes as Python.
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str, *, name: str = MANIFEST_FILE) -> "Manifest":
        """Read what `to_json` wrote; fields that this version does not know are ignored.

        Raises:
            BundleError: not JSON, a newer format, or a field that is missing or makes no sense.
        """
        try:
            _check_size(text)
            values = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, RecursionError, MemoryError) as error:
            reason = one_line(error)
            raise BundleError(f"{name}: not JSON ({reason}); export the bundle again") from error
        try:
            _check_depth(values)
            return cls._from_values(_mapping(values))
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from error
        except KeyError as error:
            raise BundleError(
                f"{name}: the field {error} is missing; export the bundle again"
            ) from None
        except (ValueError, OverflowError) as error:
            raise BundleError(f"{name}: {error}; export the bundle again") from error

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> "Manifest":
        number = values["format"]
        if type(number) is not int or number < 1:
            raise ValueError(f"format {reprlib.repr(number)} is not a format number")
        if number > FORMAT:
            raise BundleError(
                f"format {reprlib.repr(number)} is newer than this runtime reads ({FORMAT}); "
                "upgrade fic-runtime"
            )
        manifest = cls(
            format=number,
            labels=tuple(_label(label) for label in _list(values["labels"])),
            preprocessing=Preprocessing.from_dict(_mapping(values["preprocessing"])),
            base=_graph_spec(_mapping(values["base"])),
            head=_graph_spec(_mapping(values["head"])),
            files={
                _file_name(file): _text(digest)
                for file, digest in _mapping(values["files"]).items()
            },
            head_only=_flag(values.get("head_only", False)),
            feature_map=_feature_map(values.get("feature_map")),
            origin=_mapping(values.get("origin", {})),
            parity=_mapping(values.get("parity", {})),
            metrics=_mapping(values.get("metrics", {})),
            versions=_mapping(values.get("versions", {})),
            single_graph=_single_graph(values.get("single_graph", {})),
            quantization=_mapping(values.get("quantization", {})),
            calibration=_mapping(values.get("calibration", {})),
            known=_known(values.get("known")),
        )
        manifest._check_consistency()
        return manifest

    def _check_consistency(self) -> None:
        geometry = self.preprocessing.geometry
        self._check_limits()
        picture = (None, geometry.height, geometry.width, 3)
        bottleneck = ("float32", self.base.output.shape)
        probabilities = ("float32", (None, len(self.labels)))
        for what, tensor, expected in (
            ("the base's input", self.base.input, ("uint8", picture)),
            ("the base's output", self.base.output, bottleneck),
            ("the head's input", self.head.input, bottleneck),
            ("the head's output", self.head.output, probabilities),
        ):
            if (tensor.dtype, tensor.shape) != expected:
                raise ValueError(
                    f"{what} is {tensor.dtype} {_shape(tensor.shape)} where preprocessing, "
                    f"bottleneck and labels ask for {expected[0]} {_shape(expected[1])}"
                )
        if self.feature_map is not None:
            _check_feature_map(self.feature_map, self.base.output)
        label, times = Counter(self.labels).most_common(1)[0]
        if times > 1:
            raise ValueError(f"the label {reprlib.repr(label)} stands there {times} times")
        for spec in (self.base, self.head):
            if spec.file not in self.files:
                raise ValueError(f"{spec.file} has no checksum")
        if self.head.file in self.base_files:
            raise ValueError(f"{self.head.file} cannot be a file of the base as well")
        if pair := alike([MANIFEST_FILE, *self.files]):
            raise ValueError(f"{pair[0]!r} and {pair[1]!r} are one file to some systems")

    def _check_limits(self) -> None:
        """Refuse what is past any classifier: arrays of these sizes are made before any is read."""
        geometry, labels = self.preprocessing.geometry, len(self.labels)
        sides = geometry.height, geometry.width
        if max(sides) > MOST_SIDE or math.prod(sides) > MOST_PIXELS:
            raise ValueError(f"an input of {sides[0]}x{sides[1]} pixels is past the limit")
        if not 1 <= labels <= _MOST_LABELS:
            raise ValueError(f"there are {labels} labels instead of 1 to {_MOST_LABELS}")
        tensors = [self.base.output, self.head.input]
        if self.feature_map is not None:
            tensors.append(self.feature_map.output)
        for tensor in tensors:
            if math.prod(tensor.item_shape) > MOST_FEATURES:
                raise ValueError(f"{_shape(tensor.shape)} has more features than any base")


def read_manifest(files: BundleFiles) -> Manifest:
    """Read `manifest.json` of a bundle.

    Raises:
        BundleError: no bundle there, or its manifest cannot be used.
    """
    file = files.path(MANIFEST_FILE)
    try:
        text = files.read(MANIFEST_FILE, MOST_BYTES).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise _no_bundle(files) from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise BundleError(
                f"{file}: larger than any manifest; export the bundle again"
            ) from None
        raise BundleError(
            f"{file}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{file}: is not UTF-8 text; export the bundle again") from error
    return Manifest.from_json(text, name=str(file))


def _no_bundle(files: BundleFiles) -> BundleError:
    folder = files.path(MANIFEST_FILE).parent
    if not os.path.lexists(folder):
        return BundleError(
            f"{folder}: no such file or folder, so no {MANIFEST_FILE} there; "
            "give what `fic export` wrote"
        )
    if os.path.lexists(files.path("run.json")):
        return BundleError(
            f"{folder}: is a run, not a bundle; make one of it with `fic export {folder}`, or take "
            f"`fic predict {folder}`"
        )
    return BundleError(f"{folder}: no {MANIFEST_FILE} there; give what `fic export` wrote")


def _check_size(text: str) -> None:
    if text.count(",") > _MOST_VALUES or text.count("[") + text.count("{") > _MOST_LISTS:
        raise ValueError("it holds more values than any manifest")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is none of its values")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is past the largest number")
    return number


def _check_depth(values: Any) -> None:
    """Refuse lists within lists without end, which whoever copies or prints them falls over."""
    level: list[Any] = [[values]]
    depth = 0
    while level:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        inner: list[Any] = []
        for each in level:
            inside = each.values() if isinstance(each, dict) else each
            inner += [part for part in inside if type(part) in (dict, list) and part]
        level, depth = inner, depth + 1


def _graph_spec(values: dict[str, Any]) -> GraphSpec:
    return GraphSpec(
        file=_graph_name(values["file"]),
        input=_tensor(_mapping(values["input"])),
        output=_tensor(_mapping(values["output"])),
    )


def _known(values: Any) -> Known | None:
    if values is None:
        return None
    values = _mapping(values)
    file = values["file"]
    return Known(
        method=_text(values["method"]),
        threshold=_number(values["threshold"]),
        file=None if file is None else _file_name(file),
        false_rejection=_number(values["false_rejection"]),
        figures=_mapping(values.get("figures", {})),
    )


def _feature_map(values: Any) -> FeatureMap | None:
    if values is None:
        return None
    values = _mapping(values)
    if values["layout"] not in get_args(Layout):
        raise ValueError(f"the layout {reprlib.repr(values['layout'])} is neither nchw nor nhwc")
    pictures, difference = values.get("pictures", 0), values.get("largest_difference", 0.0)
    if type(pictures) is not int or type(difference) not in (int, float):
        raise ValueError("what is recorded of the feature map is not a number")
    return FeatureMap(
        output=_tensor(_mapping(values["output"])),
        layout=values["layout"],
        pictures=pictures,
        largest_difference=float(difference),
    )


def _check_feature_map(feature_map: FeatureMap, bottleneck: Tensor) -> None:
    output = feature_map.output
    channels = 1 if feature_map.layout == "nchw" else -1
    fits = output.dtype == "float32" and len(output.shape) == 4
    fits = fits and output.shape[channels] == bottleneck.shape[-1]
    if output.name == bottleneck.name:
        fits = fits and output == bottleneck and feature_map.layout == "nhwc"
    else:
        fits = fits and len(bottleneck.shape) == 2
    if not fits:
        raise ValueError(
            f"the feature map {output.dtype} {_shape(output.shape)} does not go with the "
            f"bottleneck {_shape(bottleneck.shape)}"
        )


def _tensor(values: dict[str, Any]) -> Tensor:
    batch, *item = _list(values["shape"]) or [0]
    fits = batch is None and len(item) < _MOST_AXES
    if not fits or not all(type(size) is int and 0 < size <= MOST_FEATURES for size in item):
        raise ValueError(f"the shape {reprlib.repr(values['shape'])} is not a batch of items")
    return Tensor(name=_text(values["name"]), dtype=_text(values["dtype"]), shape=(None, *item))


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('n' if size is None else str(size) for size in shape)})"


def _file_name(name: Any) -> str:
    if not is_file_name(name):
        raise ValueError(f"{reprlib.repr(name)} is not the name of a file inside the bundle")
    return str(name)


def _graph_name(name: Any) -> str:
    # ONNX Runtime goes by the suffix: it would take a file that ends in .ort for its own format.
    if not _file_name(name).endswith(_GRAPH_SUFFIX):
        raise ValueError(f"{reprlib.repr(name)} is not the name of a graph, which ends in .onnx")
    return str(name)


def _single_graph(values: Any) -> dict[str, Any]:
    found = _mapping(values)
    if found and "file" in found:
        _graph_name(found["file"])
    return found


def _label(value: Any) -> str:
    if not is_label(_text(value)):
        raise ValueError(f"the label {reprlib.repr(value)} is not one line of printable text")
    return str(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{reprlib.repr(value)} should be an object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
        raise ValueError(f"{reprlib.repr(value)} should be text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{reprlib.repr(value)} should be true or false")
    return value


def _number(value: Any) -> float:
    # Not a boolean, which Python takes for a number, and not the NaN that its JSON reads.
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(value)} should be a finite number")
    return float(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{reprlib.repr(value)} should be a list")
    return value
