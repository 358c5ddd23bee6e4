"""The base of one run, built only when the cache folder does not know enough of it.

Building a Keras base costs seconds, so two things are remembered in the cache folder: which
fingerprint a set of options had (`recipes/`), and the converted graph (`base.onnx` beside the
shards). On a warm cache a run needs neither TensorFlow's base nor the converter.
"""

import hashlib
import json
import logging
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle.opening import file_digest
from fic_runtime.preprocessing import Preprocessing

from ..cache.locks import new_temporary, publish, remove_abandoned_temporaries
from ..data.remote import local
from ..digests import digest_bytes, digest_file
from ..errors import CacheError, WeightsError
from ..fingerprint import LAST_LAYER, Fingerprint
from ..options import BaseOptions, CacheDtype
from .table import Base, find_base

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


class FrozenBase:
    """The base of `options`, with what the cache folder remembers of it.

    Args:
        options: the base.
        cache_dir: the folder of the bottleneck cache; of one at a URL, what is remembered is in
            the local copy.
        dtype: element type of the cached bottlenecks.
        fingerprint: that of an earlier run, so that nothing has to be built to know it.
        tuned_weights: the file of a fine-tuned base's weights, which stand in for those of
            `options`; `fingerprint` must then be given.
    """

    def __init__(
        self,
        options: BaseOptions,
        cache_dir: Path,
        *,
        dtype: CacheDtype = "float32",
        fingerprint: Fingerprint | None = None,
        tuned_weights: Path | None = None,
    ) -> None:
        self.options = options
        self.cache_dir = local(cache_dir)
        self.spec: Base = find_base(options.base_model)
        self.preprocessing: Preprocessing = self.spec.preprocessing(
            size=options.image_size, resize=options.resize
        )
        self._dtype: CacheDtype = dtype
        self._given = fingerprint
        self._tuned_weights = tuned_weights

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the bottlenecks; builds the base if nothing remembers it."""
        if self._given is not None:
            return self._given
        known = self._remembered
        if known is None:
            model, digest = self._built
            known = digest, tuple(model.output_shape[1:])
            recipe = {**asdict(self.options), "weights_digest": digest, "shape": known[1]}
            _write_json(self._recipe_file, recipe)
        weights, shape = known
        return Fingerprint(
            base=self.spec.name,
            weights=weights,
            tensor=self.options.layer or LAST_LAYER,
            pooling=self.options.pooling,
            preprocessing=self.preprocessing,
            dtype=self._dtype,
            shape=shape,
        )

    @property
    def folder(self) -> Path:
        """Folder of the bottlenecks of this base in the cache."""
        return self.cache_dir / self.fingerprint.folder_name

    @property
    def model(self) -> "keras.Model":
        """The Keras model, from pixels in the base's own scale to the bottleneck.

        Raises:
            WeightsError: the weights cannot be loaded, or are not those that were loaded before.
        """
        return self._built[0]

    def copy_model(self) -> "keras.Model":
        """Return a Keras model with the same weights that may be changed.

        Raises:
            WeightsError: see `model`.
        """
        from .models import copy_base

        options = self.options
        return copy_base(
            self.model,
            self.spec,
            size=options.image_size,
            layer=options.layer,
            pooling=options.pooling,
        )

    def graph_file(self) -> Path:
        """Return the converted base, beside its bottlenecks in the cache; converts it once.

        Raises:
            ConversionError: the base cannot be expressed in ONNX.
            CacheError: the graph cannot be written into the cache.
        """
        file = self.folder / "base.onnx"
        if not self.has_graph:
            from fic_export.conversion import convert_base

            log.info("converting %s to ONNX, once for this cache", self.spec.name)
            graph = convert_base(self.model, self.preprocessing)
            data = graph.SerializeToString(deterministic=True)
            _write_atomically(file, data)
            digest = hashlib.sha256(data).hexdigest()
            _write_json(self._graph_note, {"sha256": digest, "made_with": _converter()})
        return file

    @property
    def has_graph(self) -> bool:
        """Whether the cache holds the converted base, whole and of this release's converter."""
        file, note = self.folder / "base.onnx", _read_json(self._graph_note)
        return (
            file.is_file()
            and note.get("made_with") == _converter()
            and note.get("sha256") == file_digest(file)
        )

    @property
    def _graph_note(self) -> Path:
        return self.folder / "base.json"

    @cached_property
    def _built(self) -> tuple["keras.Model", str]:
        """The Keras model and the digest of its weights."""
        from .models import build_base, weights_digest
        from .weights import load_file

        options = self.options
        tuned = self._tuned_weights
        log.info("building %s with weights %s", self.spec.name, tuned or options.weights)
        model = build_base(
            self.spec,
            weights=options.weights if tuned is None else "none",
            size=options.image_size,
            layer=options.layer,
            pooling=options.pooling,
        )
        if tuned is not None:
            load_file(model, self.spec, tuned)
        digest = weights_digest(model)
        if tuned is not None:
            if self._given is None or digest != self._given.weights:
                raise WeightsError(
                    f"{tuned}: these are not the weights that run.json tells of; train again"
                )
            return model, digest
        if self._given is not None and digest != self._given.weights:
            raise WeightsError(
                f"{self.spec.name}: the weights that {options.weights!r} stands for now are not "
                "those of the run; give it the old ones back, or train again"
            )
        if self._remembered is not None and digest != self._remembered[0]:
            raise WeightsError(
                f"{self.spec.name}: the weights that {options.weights!r} stands for now are not "
                f"those of the cached bottlenecks; delete {self._recipe_file} and run again"
            )
        return model, digest

    @cached_property
    def _remembered(self) -> tuple[str, tuple[int, ...]] | None:
        """Weights digest and bottleneck shape of an earlier build with the same options."""
        recipe = _read_json(self._recipe_file)
        try:
            return str(recipe["weights_digest"]), tuple(map(int, recipe["shape"]))
        except (KeyError, TypeError, ValueError):
            return None

    @cached_property
    def _recipe_file(self) -> Path:
        # A file of weights counts by its content, so a replaced file is another recipe. The
        # weights of ImageNet belong to the release of Keras.
        options = replace(self.options, base_model=self.spec.name)
        if options.weights not in ("imagenet", "none"):
            try:
                content = digest_file(options.weights).hex()
            except OSError as error:
                raise WeightsError(
                    f"--weights {options.weights}: cannot be read ({error.strerror}); "
                    "give `imagenet`, `none` or a file of Keras weights"
                ) from error
            options = replace(options, weights=content)
        row = {name: value for name, value in asdict(self.spec).items() if value is not None}
        made_of = {**asdict(options), "row": row, "keras": version("keras")}
        made_of["tensor"] = made_of.pop("layer")  # the names that earlier caches were made with
        recipe = json.dumps(made_of, sort_keys=True)
        return self.cache_dir / "recipes" / f"{digest_bytes(recipe.encode()).hex()}.json"


def _converter() -> dict[str, str]:
    return {name: version(name) for name in ("fast-image-classification", "tf2onnx")}


def _write_atomically(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # By the rules of the cache and not as `whole_file`: this is a folder of the cache, whose
        # sweeps know what a killed process left and what another one is writing now.
        remove_abandoned_temporaries(path.parent)
        with new_temporary(path.parent) as file:
            publish(file, data, path)
    except OSError as error:
        raise CacheError(
            f"{path}: cannot be written ({error.strerror}); make room or give another "
            "--bottleneck-dir, and run the command again"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a memo that cannot be read counts as absent
    return values if isinstance(values, dict) else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    _write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
