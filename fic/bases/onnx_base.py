"""Any ONNX graph as a base: what it takes and gives, and the graph that a bundle gets of it.

Nothing of it needs TensorFlow. As with the bases of the table, the cache folder remembers what was
found out: on a warm cache a run reads the file once, for its digest.
"""

import json
import logging
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fic_runtime.bundle.opening import file_digest
from fic_runtime.preprocessing import Preprocessing

from ..data.remote import local
from ..digests import digest_bytes
from ..errors import BaseOptionError, WeightsError
from ..fingerprint import Fingerprint
from ..options import BaseOptions, CacheDtype
from .files import BaseFile
from .machine import GRAPH, NOTE, believed_folder
from .memos import own_digest, read_json, write_atomically, write_json, write_with_weights
from .onnx_plan import Facts, Plan, plan_graph, pooled, wrap_graph
from .preprocessor import PixelRule

if TYPE_CHECKING:
    import keras

    from fic_export.conversion.wrapping import Wrapping
    from fic_export.graphs.foreign import ForeignGraph

log = logging.getLogger(__name__)

NAME = "onnx"
"""What every such base is called in fingerprints: the file's digest tells them apart, and a file
that was renamed is the same base."""


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

            model = wrap_graph(self._plan)
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
    def _facts(self) -> Facts:
        """What the bottlenecks depend on; from the cache folder if it was found out before."""
        from fic_export.graphs.foreign import digest_foreign

        digest = digest_foreign(self.file.path)
        recipe = self._recipe_file(digest)
        facts = Facts.remembered(read_json(recipe))
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
    def _plan(self) -> Plan:
        """The graph, and what is to be put around it."""
        from fic_export.errors import ConversionError
        from fic_export.graphs.foreign import digest_foreign

        given = self._given
        if given is not None and not self.file.path.exists():
            raise ConversionError(
                f"{self.file.path}: cannot be read, and the base of the run is in it; put it back "
                "there, with what lay beside it, or train again with it where it is now"
            )
        if given is not None and digest_foreign(self.file.path) != given.weights:
            raise WeightsError(
                f"{self.file.path}: is not the file of the run any more; put the old one back, or "
                "train again"
            )
        plan = plan_graph(self.options, self.file)
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


def _maker() -> dict[str, str]:
    from importlib.metadata import version

    return {"fast-image-classification": version("fast-image-classification")}
