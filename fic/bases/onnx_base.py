"""Any ONNX graph as a base: what it takes and gives, and the graph that a bundle gets of it.

Nothing of it needs TensorFlow. As with the bases of the table, the cache folder remembers what was
found out: on a warm cache a run reads the file once, for its digest.
"""

import json
import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from fic_runtime.bundle.manifest import MOST_FEATURES
from fic_runtime.bundle.opening import file_digest
from fic_runtime.errors import BundleError, DeviceError
from fic_runtime.preprocessing import Preprocessing

from ..data.remote import local
from ..digests import digest_bytes
from ..errors import BaseOptionError, WeightsError
from ..fingerprint import Fingerprint, bottleneck_shape
from ..options import BaseOptions, CacheDtype, Pooling
from .files import BaseFile
from .machine import GRAPH, NOTE, believed_folder
from .memos import own_digest, read_json, write_atomically, write_json, write_with_weights
from .preprocessor import RULES, PixelRule, Processor, find_image_size

if TYPE_CHECKING:
    import keras
    import onnx

    from fic_export.conversion.wrapping import Wrapping
    from fic_export.graphs.foreign import ForeignGraph, PictureInput

log = logging.getLogger(__name__)

NAME = "onnx"
"""What every such base is called in fingerprints: the file's digest tells them apart, and a file
that was renamed is the same base."""

_CHECKED = 3  # pictures that must give the same together as alone
_CHECK_TOLERANCE = 1e-2  # relative to the largest value, as half precision needs


class OnnxBase:
    """The base of an ONNX file, with what the cache folder remembers of it.

    Args:
        options: the base and what is said of its pixels.
        file: where it is.
        cache_dir: the folder of the bottleneck cache.
        dtype: element type of the cached bottlenecks.
        fingerprint: that of an earlier run; the file is then only read if the cache lacks its
            graph, or to compare with it.
    """

    def __init__(
        self,
        options: BaseOptions,
        file: BaseFile,
        cache_dir: Path,
        *,
        dtype: CacheDtype = "float32",
        fingerprint: Fingerprint | None = None,
    ) -> None:
        if options.weights != "imagenet":
            raise BaseOptionError(
                f"--weights {options.weights}: an ONNX file brings its weights; leave --weights out"
            )
        self.options = options
        self.cache_dir = local(cache_dir)
        self.file = file
        self._dtype: CacheDtype = dtype
        self._given = fingerprint

    in_keras = False
    """Whether there is a Keras model of it."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.file.name

    @property
    def base_model(self) -> str:
        """What finds it again, from every working folder and at the same revision."""
        return self.file.base_model

    @property
    def source(self) -> dict[str, str]:
        """Where it comes from, for manifests."""
        return dict(self.file.source)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the bottlenecks; reads the graph if nothing remembers it."""
        if self._given is not None:
            return self._given
        facts = self._facts
        return Fingerprint(
            base=NAME,
            weights=facts.digest,
            tensor=facts.tensor,
            pooling=facts.pooling,
            preprocessing=facts.preprocessing,
            dtype=self._dtype,
            shape=facts.shape,
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes its input."""
        return self.fingerprint.preprocessing

    @property
    def folder(self) -> Path:
        """Folder of the bottlenecks of this base in the cache."""
        return self.cache_dir / self.fingerprint.folder_name

    @property
    def model(self) -> "keras.Model":
        """Refuse: there is no Keras model.

        Raises:
            BaseOptionError: always.
        """
        self._refuse("--engine keras and --fine-tune need a Keras model")

    def copy_model(self) -> "keras.Model":
        """Refuse, as `model`."""
        self._refuse("--fine-tune needs a Keras model")

    def build_rest(self) -> "keras.Model":
        """Refuse: the rest of the graph cannot be trained.

        Raises:
            BaseOptionError: always.
        """
        self._refuse("--head rest trains the rest of a Keras model")

    def check_fine_tuning(self) -> None:
        """Refuse, as `model`."""
        self._refuse("--fine-tune needs a Keras model")

    def check_explanations(self) -> None:
        """Refuse to export what explains.

        Raises:
            BaseOptionError: always.
        """
        self._refuse("--with-feature-map takes apart a Keras model")

    @cached_property
    def reference(self) -> "OnnxReference":
        """The user's own file, as an export compares the bundle with it.

        Raises:
            ConversionError: it cannot be read.
            WeightsError: it is not the file of the run.
        """
        plan = self._plan
        return OnnxReference(plan.graph, plan.wrapping, plan.rule, self.name)

    def graph_file(self) -> Path:
        """Return the wrapped graph, beside its bottlenecks in the cache; makes it once.

        It lies elsewhere where others may write in the cache.

        Raises:
            ConversionError: the graph cannot be used.
            CacheError: it cannot be written into the cache.
        """
        file = self._graph_folder / GRAPH
        if not self.has_graph:
            from fic_export.graphs.files import is_large, weights_file, write_graph

            model = _wrapped(self._plan)
            beside = file.with_name(weights_file(file.name))
            note: dict[str, Any] = {"made_with": _maker()}
            if is_large(model):
                write_with_weights(
                    file, beside, lambda path: write_graph(model, path, {}, checked=False)
                )
                note["weights_sha256"] = file_digest(beside)
            else:
                data = model.SerializeToString(deterministic=True)
                write_atomically(file, data)
            write_json(self._graph_note, {**note, "sha256": file_digest(file)})
        return file

    def keep_weights(self) -> None:
        """Keep nothing: the graph in the cache is the file's."""

    @property
    def has_graph(self) -> bool:
        """Whether the cache holds the wrapped graph, whole, of this release, and ours."""
        from fic_export.graphs.files import weights_file

        file, note = self._graph_folder / GRAPH, read_json(self._graph_note)
        if note.get("made_with") != _maker():
            return False
        beside = file.with_name(weights_file(file.name))
        weights = own_digest(beside) if beside.is_file() else None
        return note.get("sha256") == own_digest(file) and note.get("weights_sha256") == weights

    @property
    def _graph_note(self) -> Path:
        return self._graph_folder / NOTE

    @cached_property
    def _graph_folder(self) -> Path:
        """A folder where nobody else can put a graph of theirs, as for all bases."""
        return believed_folder(self.cache_dir, self.folder, self)

    @cached_property
    def _facts(self) -> "_Facts":
        """What the bottlenecks depend on; from the cache folder if it was found out before."""
        from fic_export.graphs.foreign import digest_foreign

        digest = digest_foreign(self.file.path)
        recipe = self._recipe_file(digest)
        facts = _Facts.remembered(read_json(recipe))
        if facts is None or facts.digest != digest:
            facts = self._plan.facts(digest)
            write_json(recipe, facts.to_dict())
        if self.options.layer is None and facts.outputs > 1:
            log.warning("%s: %s is the bottleneck, of its outputs", self.name, facts.tensor)
        return facts

    def _recipe_file(self, digest: str) -> Path:
        options = self.options
        processor = self.file.processor(options)
        # All that is not in the graph itself.
        made_of = {
            "made_with": _maker(),
            "digest": digest,
            "processor": None if processor is None else {**asdict(processor), "source": None},
            "options": [options.layer, options.pooling, options.image_size, options.resize],
        }
        key = digest_bytes(json.dumps(made_of, sort_keys=True).encode()).hex()
        return self.cache_dir / "recipes" / f"{key}.json"

    @cached_property
    def _plan(self) -> "_Plan":
        """The graph, and what is to be put around it."""
        from fic_export.graphs.foreign import digest_foreign

        given = self._given
        if given is not None and digest_foreign(self.file.path) != given.weights:
            raise WeightsError(
                f"{self.file.path}: is not the file of the run any more; put the old one back, or "
                "train again"
            )
        plan = _planned(self.options, self.file)
        if given is not None and plan.wrapping.preprocessing != given.preprocessing:
            raise WeightsError(
                f"{self.file.path}: what is said of its pixels is not what it was in the run; put "
                "the old preprocessor_config.json back, or train again"
            )
        return plan

    def _refuse(self, what: str) -> NoReturn:
        raise BaseOptionError(
            f"{what}, and {self.name} is an ONNX graph; leave it out, or give a base of `fic bases`"
        )


class OnnxReference:
    """The user's own file, unchanged and without optimisation, with NumPy around it.

    Args:
        graph: the file.
        wrapping: what the exported graph has around it, whose numbers are not used for pixels.
        rule: what is done to pixels, in the steps of the publisher's config.
        name: what messages call it.
    """

    def __init__(
        self, graph: "ForeignGraph", wrapping: "Wrapping", rule: PixelRule, name: str
    ) -> None:
        from fic_export.conversion.plain_session import PlainSession

        self.name = name
        geometry = wrapping.preprocessing.geometry
        self.input_shape = (None, geometry.height, geometry.width, 3)
        self.output_shape = (None, *wrapping.shape)
        self.inputs = (wrapping.picture.name,)
        self._session = PlainSession(graph, wrapping.picture, wrapping.tensor)
        self._wrapping = wrapping
        self._rule = rule

    def bottlenecks(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return float32 bottlenecks of uint8 RGB pixels (n, height, width, 3), one by one."""
        return np.concatenate([self._bottleneck(one[None]) for one in pixels])

    def _bottleneck(self, pixels: NDArray[Any]) -> NDArray[Any]:
        inputs = self._rule.apply(pixels)
        if self._wrapping.layout == "nchw":
            inputs = inputs.transpose(0, 3, 1, 2)
        result = self._session.run(inputs)[:1].astype(np.float32)
        return pooled(result, self._wrapping.kind, self._wrapping.pooling)


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


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the fingerprint takes from a graph; `outputs` is how many it has."""

    digest: str
    tensor: str
    pooling: str | None
    shape: tuple[int, ...]
    preprocessing: Preprocessing
    outputs: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def remembered(cls, values: dict[str, Any]) -> "_Facts | None":
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
class _Plan:
    graph: "ForeignGraph"
    wrapping: "Wrapping"
    rule: PixelRule

    def facts(self, digest: str) -> _Facts:
        wrapping = self.wrapping
        return _Facts(
            digest=digest,
            tensor=wrapping.tensor,
            pooling=None if wrapping.kind == "vector" else wrapping.pooling,
            shape=wrapping.shape,
            preprocessing=wrapping.preprocessing,
            outputs=len(self.graph.outputs),
        )


def _planned(options: BaseOptions, file: BaseFile) -> _Plan:
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
    return _Plan(
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


_UINT8 = 2  # TensorProto.UINT8


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


def _wrapped(plan: _Plan) -> "onnx.ModelProto":
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
            if _takes_batches(model, plan):
                return model
            reason = "pictures do not give together what they give alone"
        except (BundleError, DeviceError) as error:
            log.debug("%s: %s", plan.graph.path, one_line(error))
            batch = plan.wrapping.picture.batch
            reason = one_line(error) if batch is None else f"it was made for {batch} at a time"
    raise ConversionError(
        f"{plan.graph.path}: cannot be used for any number of pictures ({reason}); export it with "
        "a free batch"
    )


def _takes_batches(model: "onnx.ModelProto", plan: _Plan) -> bool:
    """Tell whether pictures give the same together as alone."""
    from fic_export.conversion.opened import opened

    geometry = plan.wrapping.preprocessing.geometry
    shape = (_CHECKED, geometry.height, geometry.width, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    with opened(model) as graph:
        together = graph.run(pixels)
        alone = np.concatenate([graph.run(one[None]) for one in pixels])
    scale = float(np.abs(alone).max()) or 1.0
    if together.shape != alone.shape:
        return False
    with np.errstate(invalid="ignore"):  # what is not finite is not the same
        return bool(np.abs(together - alone).max() <= _CHECK_TOLERANCE * scale)


def _maker() -> dict[str, str]:
    from importlib.metadata import version

    return {"fast-image-classification": version("fast-image-classification")}
