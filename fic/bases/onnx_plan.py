"""What has to be put around an ONNX graph for it to be a base, found out by running it.

A graph says little of itself: which axis holds colors, what its output is, whether it takes several
pictures. It is run once on noise, and what comes out answers.
"""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from fic_runtime.bundle.manifest import MOST_FEATURES
from fic_runtime.errors import BundleError, DeviceError
from fic_runtime.preprocessing import Preprocessing

from ..errors import BaseOptionError
from ..fingerprint import bottleneck_shape
from ..options import BaseOptions, Pooling
from .files import BaseFile
from .preprocessor import RULES, PixelRule, Processor, find_image_size

if TYPE_CHECKING:
    import onnx

    from fic_export.conversion.wrapping import Wrapping
    from fic_export.graphs.foreign import ForeignGraph, PictureInput

log = logging.getLogger(__name__)

_UINT8 = 2  # TensorProto.UINT8
_CHECKED = 3  # pictures that must give the same together as alone
_CHECK_TOLERANCE = 1e-2  # relative to the largest value, as half precision needs


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the fingerprint takes from a graph.

    Attributes:
        digest: of the file.
        tensor: the bottleneck.
        pooling: of it, None for a vector.
        shape: of one bottleneck.
        preprocessing: how a picture becomes its input.
        outputs: how many the graph has.
    """

    digest: str
    tensor: str
    pooling: str | None
    shape: tuple[int, ...]
    preprocessing: Preprocessing
    outputs: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def remembered(cls, values: dict[str, Any]) -> "Facts | None":
        """Return what `to_dict` gave; None for anything else."""
        try:
            preprocessing = Preprocessing.from_dict(values["preprocessing"])
            shape = bottleneck_shape(values["shape"])
            if not (isinstance(values["tensor"], str) and type(values["outputs"]) is int):
                return None
            if values["pooling"] not in (None, *get_args(Pooling)):
                return None
            return cls(**{**values, "shape": shape, "preprocessing": preprocessing})
        except (BundleError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Plan:
    """A graph, what is put around it, and what its publisher says of pixels."""

    graph: "ForeignGraph"
    wrapping: "Wrapping"
    rule: PixelRule

    def facts(self, digest: str) -> Facts:
        """Return what the fingerprint takes from it; `digest` is that of the file."""
        wrapping = self.wrapping
        return Facts(
            digest=digest,
            tensor=wrapping.tensor,
            pooling=None if wrapping.kind == "vector" else wrapping.pooling,
            shape=wrapping.shape,
            preprocessing=wrapping.preprocessing,
            outputs=len(self.graph.outputs),
        )


def plan_graph(options: BaseOptions, file: BaseFile) -> Plan:
    """Read the graph, and find out what must be put around it.

    Raises:
        BaseOptionError: nothing says what its pixels must become, or what is said does not fit.
        ConversionError: the graph cannot be used.
    """
    from fic_export.conversion.wrapping import Wrapping
    from fic_export.graphs.foreign import read_foreign

    graph = read_foreign(file.path)
    tensor = graph.bottleneck(options.layer)
    picture = graph.picture_input(tensor)
    processor = _processor(options, file, picture)
    result, layout, processor = _probed(options, file, graph, picture, tensor, processor)
    kind = _kind(graph, tensor, result, layout, options.pooling)
    shape = pooled(result, kind, options.pooling).shape[1:]
    return Plan(
        graph,
        Wrapping(
            picture=picture,
            layout=layout,
            tensor=tensor,
            kind=kind,
            pooling=options.pooling,
            shape=shape,
            preprocessing=processor.preprocessing,
        ),
        processor.rule,
    )


def wrap_graph(plan: Plan) -> "onnx.ModelProto":
    """Return the graph of the base, in which pictures of one batch do not change each other.

    Raises:
        ConversionError: ONNX Runtime cannot run it, or it is for a fixed number of pictures.
    """
    from fic_export.conversion.wrapping import wrap
    from fic_export.errors import ConversionError, one_line

    log.info("putting pixels and pooling around %s, once for this cache", plan.graph.path)
    reason = ""
    # First as it is: its input is all that most graphs for a fixed number of pictures say of it.
    for free_batch in (False, True):
        model = wrap(plan.graph, plan.wrapping, free_batch=free_batch)
        try:
            if not _takes_batches(model, plan):
                reason = "pictures do not give together what they give alone"
            elif free_batch and not _answers_as_made(model, plan):
                reason = "for any number it gives something else"
            else:
                return model
        except (BundleError, DeviceError) as error:
            log.debug("%s: %s", plan.graph.path, one_line(error))
            batch = plan.wrapping.picture.batch
            reason = one_line(error) if batch is None else f"it was made for {batch} at a time"
    raise ConversionError(
        f"{plan.graph.path}: cannot be used for any number of pictures ({reason}); export it with "
        "a free batch"
    )


def pooled(result: NDArray[Any], kind: str, pooling: str) -> NDArray[Any]:
    """Return bottlenecks (n, …) of what a graph gives: a vector, a map or tokens."""
    axes = {"map_nchw": (2, 3), "map_nhwc": (1, 2), "tokens": (1,)}.get(kind)
    if axes is None:
        return result
    if pooling == "avg":
        return np.asarray(result.mean(axis=axes, dtype=np.float32))
    if pooling == "max":
        return np.asarray(result.max(axis=axes))
    if pooling == "cls":
        return result[:, 0]
    if kind == "tokens":
        return result[:, None]
    return result.transpose(0, 2, 3, 1) if kind == "map_nchw" else result


def _processor(options: BaseOptions, file: BaseFile, picture: "PictureInput") -> Processor:
    """Return what is said of the pixels; an input of uint8 says itself that they stay."""
    processor = file.processor(options)
    if picture.type == _UINT8:
        if processor is not None and processor.rule != RULES["raw"]:
            raise BaseOptionError(
                f"{file.path}: its input {picture.name} is uint8, so the arithmetic on pixels is "
                f"inside, and {processor.source} asks for more; give --pixels raw"
            )
        return processor or Processor(
            rule=RULES["raw"], geometry=None, source=f"its input {picture.name}"
        )
    if processor is None:
        raise BaseOptionError(file.pixels_unknown)
    return processor


def _sized(
    options: BaseOptions, file: BaseFile, processor: Processor, sides: tuple[int | None, int | None]
) -> Processor:
    """Return the processor with the size of the graph's input."""
    size = options.image_size
    if size is None and processor.geometry is None:
        # An input of a fixed size leaves nothing to be said.
        height, width = sides
        if height is not None and width is not None:
            return processor.fitted(height=height, width=width, resize=options.resize)
        size = find_image_size(file.folder)
        if size is None:
            raise BaseOptionError(
                f"{file.path}: takes pictures of any size, and nothing says for which it was "
                "trained; give --image-size"
            )
    processor = processor.sized(size=size, resize=options.resize)
    geometry = processor.preprocessing.geometry
    found = (geometry.height, geometry.width)
    if any(side not in (None, own) for side, own in zip(sides, found, strict=True)):
        wanted = " x ".join("any" if side is None else str(side) for side in sides)
        said = "--image-size" if options.image_size else processor.source
        remedy = "give --image-size and --resize as the graph needs them"
        if sides[0] != sides[1]:
            remedy = "give --pixels without --image-size"
        raise BaseOptionError(
            f"{file.path}: takes pictures of {wanted}, and {said} says {found[0]} x {found[1]}; "
            f"{remedy}"
        )
    return processor


def _probed(
    options: BaseOptions,
    file: BaseFile,
    graph: "ForeignGraph",
    picture: "PictureInput",
    tensor: str,
    processor: Processor,
) -> tuple[NDArray[Any], str, Processor]:
    """Run the graph once: return what the tensor is, and the layout and size that it took."""
    from fic_export.conversion.plain_session import PlainSession
    from fic_export.errors import ConversionError

    session = PlainSession(graph, picture, tensor)
    random = np.random.default_rng(0)
    last = picture.layouts[-1]
    for layout in picture.layouts:
        sized = _sized(options, file, processor, picture.side(layout))
        geometry = sized.preprocessing.geometry
        pixels = random.integers(0, 256, (1, geometry.height, geometry.width, 3), np.uint8)
        inputs = sized.rule.apply(pixels)
        try:
            result = session.run(inputs.transpose(0, 3, 1, 2) if layout == "nchw" else inputs)
        except ConversionError:
            if layout == last:
                raise
            continue
        break
    if result.dtype.kind != "f" or result.ndim < 2 or len(result) != (picture.batch or 1):
        raise ConversionError(
            f"{file.path}: {tensor} is {result.dtype} of shape {result.shape} for "
            f"{picture.batch or 1} pictures, and a bottleneck is a float for each of them; give "
            "another --bottleneck-tensorname"
        )
    if not 0 < result[0].size <= MOST_FEATURES:
        raise ConversionError(
            f"{file.path}: {tensor} has {result[0].size} numbers for a picture, and a bottleneck "
            f"has at most {MOST_FEATURES}; give another --bottleneck-tensorname"
        )
    if not np.isfinite(result[:1]).all():
        raise ConversionError(
            f"{file.path}: {tensor} is not finite for a picture of random pixels; give a graph "
            "whose weights are numbers, and what its pixels must become"
        )
    return result[:1], layout, sized


def _kind(
    graph: "ForeignGraph", tensor: str, result: NDArray[Any], layout: str, pooling: str
) -> Any:
    from fic_export.conversion.wrapping import kind_of

    kind = kind_of(graph, tensor, result.ndim, layout)
    if kind is None:
        raise BaseOptionError(
            f"{graph.path}: {tensor} has the shape {result.shape}, and a bottleneck is a vector, "
            "a map or tokens; give another --bottleneck-tensorname"
        )
    if pooling == "cls" and kind != "tokens":
        what = "a vector" if kind == "vector" else "a map"
        raise BaseOptionError(
            f"--pooling cls: takes the first of several tokens, and {tensor} of {graph.path} is "
            f"{what}; give another --pooling, or the tokens with --bottleneck-tensorname"
        )
    return kind


def _takes_batches(model: "onnx.ModelProto", plan: Plan) -> bool:
    """Tell whether pictures give the same together as alone."""
    from fic_export.conversion.opened import opened

    pixels = _random_pixels(plan, _CHECKED)
    with opened(model) as graph:
        together = graph.run(pixels)
        alone = np.concatenate([graph.run(one[None]) for one in pixels])
    return _agree(together, alone)


def _answers_as_made(model: "onnx.ModelProto", plan: Plan) -> bool:
    """Tell whether a freed graph gives what it gave before, for as many as it was made for."""
    from fic_export.conversion.opened import opened
    from fic_export.conversion.wrapping import wrap

    pixels = _random_pixels(plan, plan.wrapping.picture.batch or 1)
    answers = []
    for each in (model, wrap(plan.graph, plan.wrapping)):
        with opened(each) as graph:
            answers.append(graph.run(pixels))
    return _agree(*answers)


def _random_pixels(plan: Plan, count: int) -> NDArray[np.uint8]:
    geometry = plan.wrapping.preprocessing.geometry
    shape = (count, geometry.height, geometry.width, 3)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def _agree(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    scale = float(np.abs(expected).max()) or 1.0
    if found.shape != expected.shape:
        return False
    with np.errstate(invalid="ignore"):  # what is not finite is not the same
        return bool(np.abs(found - expected).max() <= _CHECK_TOLERANCE * scale)
