"""The base of one run, built only when the cache folder does not know enough of it.

Building a Keras base costs seconds, so two things are remembered in the cache folder: which
fingerprint a set of options had (`recipes/`), and the converted graph (`base.onnx` beside the
shards). On a warm cache a run needs neither TensorFlow's base nor the converter.

A graph is what an export ships, so it is believed only in a folder where nobody else can write,
as an ssh key is; of a shared cache it is kept in this user's own folder instead.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.preprocessing import Preprocessing

from ..data.remote import local
from ..digests import digest_bytes, digest_file
from ..errors import DataError, WeightsError
from ..fingerprint import LAST_LAYER, Fingerprint, bottleneck_shape
from ..options import BaseOptions, CacheDtype
from .kept_files import found_file, keep_file
from .keras_file import KerasFile
from .machine import (
    GRAPH,
    RECIPES,
    KnownBases,
    believed_folder,
    is_whole,
    known_bases,
    write_graph,
)
from .memos import read_json, write_json
from .table import Base, find_base

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

_RECIPE = re.compile(r"[0-9a-f]{32}\.json")
_FOLDER = re.compile(r".+-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{1,128}")
_NO_FILES = ("imagenet", "none")  # of --weights
_MOST_ENTRIES = 10_000  # of a folder that are looked at to tell whether it is a cache


def is_cache(folder: Path) -> bool:
    """Return whether fic has kept bottlenecks, or what it knows of bases, in this folder before.

    Whoever names a folder in a file that others read cannot make it a cache by doing so. Of one at
    a URL the local copy tells, so that no server is asked that a stranger names.
    """
    try:
        folder = local(folder)
        if any(_RECIPE.fullmatch(name) for name in _names(folder / RECIPES)):
            return True
        return any(
            (folder / name / "fingerprint.json").is_file()
            for name in _names(folder)
            if _FOLDER.fullmatch(name)
        )
    except (DataError, OSError, ValueError):
        return False


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _MOST_ENTRIES)]


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
        own: the Keras model of a file, in place of a row of the table.
    """

    in_keras = True
    """Whether there is a Keras model of it."""

    def __init__(
        self,
        options: BaseOptions,
        cache_dir: Path,
        *,
        dtype: CacheDtype = "float32",
        fingerprint: Fingerprint | None = None,
        tuned_weights: Path | None = None,
        own: KerasFile | None = None,
    ) -> None:
        self.options = options
        self.cache_dir = local(cache_dir)
        self.spec: Base = find_base(options.base_model) if own is None else own.spec
        self.preprocessing: Preprocessing = (
            self.spec.preprocessing(size=options.image_size, resize=options.resize)
            if own is None
            else own.preprocessing
        )
        self._own = own
        self._dtype: CacheDtype = dtype
        self._given = fingerprint
        self._tuned_weights = tuned_weights

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.spec.name if self._own is None else self._own.file.name

    @property
    def base_model(self) -> str:
        """What finds it again, from every working folder."""
        return self.spec.name if self._own is None else self._own.file.base_model

    @property
    def source(self) -> dict[str, str]:
        """Where it comes from, for manifests; nothing for a row of the table."""
        return {} if self._own is None else dict(self._own.file.source)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the bottlenecks; builds the base if nothing remembers it."""
        if self._given is not None:
            return self._given
        known = self._remembered
        if known is None:
            model, digest = self._built
            known = digest, tuple(model.output_shape[1:])
            self._remember(digest, known[1])
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

    @property
    def reference(self) -> "keras.Model":
        """What an export compares the bundle with: `model`."""
        return self.model

    def check_explanations(self) -> None:
        """Accept to export what explains, as far as is known before the model is built."""

    def build_rest(self) -> "keras.Model":
        """Return a trainable copy of what comes after the cut; see `models.build_rest`."""
        from .models import build_rest

        options = self.options
        if options.layer is None:
            raise ValueError("the rest of a base begins after a layer that has to be named")
        return build_rest(
            self.spec, options.layer, weights=options.weights, size=options.image_size
        )

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
        """Return the converted base; converts it once for this machine.

        It lies beside its bottlenecks in the cache that it was converted for, and in this user's
        own folder of caches, where other caches find it (`fic.bases.machine`).

        Raises:
            ConversionError: the base cannot be expressed in ONNX.
            CacheError: the graph cannot be written.
        """
        if (known := self._known_graph()) is not None:
            return known
        from fic_export.conversion import convert_base

        log.info("converting %s to ONNX, once for this machine", self.spec.name)
        graph = convert_base(self.model, self.preprocessing)
        data = graph.SerializeToString(deterministic=True)
        file = self._graph_folder / GRAPH
        write_graph(file, data, _converter())
        if self._machine is not None:
            self._machine.keep_graph(self.folder.name, data, _converter())
        return file

    def keep_weights(self) -> None:
        """Keep a copy of the user's file of weights in the cache, for a run that is moved."""
        if self._given_file is not None and self.folder.is_dir():
            keep_file(self._given_file, self.folder)

    @property
    def _given_file(self) -> Path | None:
        """The file of weights, or of the whole base, that the user named."""
        if self._own is not None:
            return self._own.file.path
        return Path(self.options.weights) if self.options.weights not in _NO_FILES else None

    @property
    def has_graph(self) -> bool:
        """Whether the converted base is at hand: whole, of this release's converter, and ours."""
        return self._known_graph() is not None

    def _known_graph(self) -> Path | None:
        file = self._graph_folder / GRAPH
        if is_whole(file, _converter()):
            return file
        if self._machine is None:
            return None
        return self._machine.graph(self.folder.name, _converter())

    @cached_property
    def _machine(self) -> KnownBases | None:
        # What was fine-tuned belongs to one run.
        return None if self._tuned_weights is not None else known_bases()

    @cached_property
    def _graph_folder(self) -> Path:
        """A folder where nobody else can put a graph of theirs."""
        return believed_folder(self.cache_dir, self.folder, self)

    @cached_property
    def _built(self) -> tuple["keras.Model", str]:
        """The Keras model and the digest of its weights."""
        from .models import build_base, weights_digest
        from .weights import load_file

        options = self.options
        tuned, weights = self._tuned_weights, options.weights
        if self._given is not None and weights not in _NO_FILES:
            weights = str(found_file(Path(weights), self.folder))
        log.info("building %s with weights %s", self.spec.name, tuned or weights)
        model = build_base(
            self.spec,
            weights=weights if tuned is None else "none",
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
        # With a run's fingerprint nothing else needs to be known, such as a file that is gone.
        if self._given is None and self._remembered and digest != self._remembered[0]:
            raise WeightsError(
                f"{self.spec.name}: the weights that {options.weights!r} stands for now are not "
                f"those of the cached bottlenecks; delete {self._recipe_file} and run again"
            )
        return model, digest

    @cached_property
    def _remembered(self) -> tuple[str, tuple[int, ...]] | None:
        """Weights digest and bottleneck shape of an earlier build with the same options."""
        found = _digest_and_shape(read_json(self._recipe_file))
        if found is None and self._machine is not None:
            found = _digest_and_shape(self._machine.recipe(self._machine_recipe))
            if found is not None:
                self._remember(*found)
        return found

    def _remember(self, digest: str, shape: tuple[int, ...]) -> None:
        recipe = {**asdict(self.options), "weights_digest": digest, "shape": shape}
        if self._machine is not None:
            self._machine.remember(self._machine_recipe, recipe)
        file = self._recipe_file
        if file.parent.is_symlink():
            log.warning("%s: is a link, which is not followed within a cache", file.parent)
            return
        write_json(file, recipe)

    @property
    def _machine_recipe(self) -> str:
        # Keras finds the weights of ImageNet in another folder with it, where others may lie.
        home = os.environ.get("KERAS_HOME", "")
        return f"{digest_bytes(f'{self._recipe_file.stem} {home}'.encode()).hex()}.json"

    @cached_property
    def _recipe_file(self) -> Path:
        # A file of weights counts by its content, so a replaced file is another recipe. The
        # weights of ImageNet belong to the release of Keras.
        options = replace(self.options, base_model=self.spec.name)
        if options.weights not in _NO_FILES:
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
        for name in ("pixels", "preprocessor"):
            del made_of[name]  # they are in the row of a file, and others have none
        made_of["tensor"] = made_of.pop("layer")  # the names that earlier caches were made with
        recipe = json.dumps(made_of, sort_keys=True)
        return self.cache_dir / RECIPES / f"{digest_bytes(recipe.encode()).hex()}.json"


def _digest_and_shape(recipe: Mapping[str, Any]) -> tuple[str, tuple[int, ...]] | None:
    """Return what a recipe says; None where it makes no sense."""
    try:
        digest, shape = recipe["weights_digest"], bottleneck_shape(recipe["shape"])
    except (KeyError, ValueError):
        return None
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        return None
    return digest, shape


def _converter() -> dict[str, str]:
    return {name: version(name) for name in ("fast-image-classification", "tf2onnx")}
