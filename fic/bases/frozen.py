"""The base of one run, built only when the cache folder does not know enough of it.

Building a Keras base costs seconds, so two things are remembered in the cache folder: which
fingerprint a set of options had (`recipes/`), and the converted graph (`base.onnx` beside the
shards). On a warm cache a run needs neither TensorFlow's base nor the converter.

A graph is what an export ships, so it is believed only in a folder where nobody else can write,
as an ssh key is; of a shared cache it is kept in this user's own folder instead.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import weakref
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.graphs.cache import cache_folder
from fic_runtime.preprocessing import Preprocessing
from fic_runtime.reading import is_private, open_regular, private_folder, read_json

from ..cache.locks import make_folder, new_temporary, publish, remove_abandoned_temporaries
from ..digests import digest_bytes, digest_file
from ..errors import CacheError, WeightsError
from ..fingerprint import LAST_LAYER, Fingerprint, bottleneck_shape
from ..options import BaseOptions, CacheDtype
from .table import Base, find_base

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

_GRAPH = "base.onnx"
_RECIPES = "recipes"
_RECIPE = re.compile(r"[0-9a-f]{32}\.json")
_FOLDER = re.compile(r".+-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{1,128}")
_MOST_BYTES = 1 << 20  # of a note or a recipe, which have some hundreds
_MOST_ENTRIES = 10_000  # of a folder that are looked at to tell whether it is a cache


def is_cache(folder: Path) -> bool:
    """Return whether fic has kept bottlenecks, or what it knows of bases, in this folder before.

    Whoever names a folder in a file that others read cannot make it a cache by doing so.
    """
    try:
        if any(_RECIPE.fullmatch(name) for name in _names(folder / _RECIPES)):
            return True
        return any(
            (folder / name / "fingerprint.json").is_file()
            for name in _names(folder)
            if _FOLDER.fullmatch(name)
        )
    except (OSError, ValueError):
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
        cache_dir: the folder of the bottleneck cache.
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
        self.cache_dir = cache_dir
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
        """Return the converted base; converts it once.

        It lies beside its bottlenecks in the cache, or, where others may write there, in this
        user's own folder of caches.

        Raises:
            ConversionError: the base cannot be expressed in ONNX.
            CacheError: the graph cannot be written.
        """
        file = self._graph_folder / _GRAPH
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
        """Whether the converted base is at hand: whole, of this release's converter, and ours."""
        note = _read_json(self._graph_note)
        return note.get("made_with") == _converter() and note.get("sha256") == _own_digest(
            self._graph_folder / _GRAPH
        )

    @property
    def _graph_note(self) -> Path:
        return self._graph_folder / "base.json"

    @cached_property
    def _graph_folder(self) -> Path:
        """A folder where nobody else can put a graph of theirs."""
        try:
            make_folder(self.folder)
            for folder in (self.cache_dir, self.folder):
                private_folder(folder)
        except OSError as error:
            return self._own_graph_folder(f"{error.filename}: {error.strerror}")
        return self.folder

    def _own_graph_folder(self, reason: str) -> Path:
        own = cache_folder()
        if own is not None:
            folder = own / "bases" / self.folder.name
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                private_folder(folder)
            except OSError as error:
                log.info("%s: not used (%s)", folder, error.strerror)
            else:
                log.warning("%s; so the graph of the base is kept in %s", reason, folder)
                return folder
        log.warning("%s; so the graph of the base is converted anew and not kept", reason)
        passing = tempfile.mkdtemp(prefix="fic-base-")
        weakref.finalize(self, shutil.rmtree, passing, ignore_errors=True)
        return Path(passing)

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
            digest, shape = recipe["weights_digest"], bottleneck_shape(recipe["shape"])
        except (KeyError, ValueError):
            return None
        if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            return None
        return digest, shape

    def _remember(self, digest: str, shape: tuple[int, ...]) -> None:
        file = self._recipe_file
        if file.parent.is_symlink():
            log.warning("%s: is a link, which is not followed within a cache", file.parent)
            return
        _write_json(file, {**asdict(self.options), "weights_digest": digest, "shape": shape})

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
        return self.cache_dir / _RECIPES / f"{digest_bytes(recipe.encode()).hex()}.json"


def _converter() -> dict[str, str]:
    return {name: version(name) for name in ("fast-image-classification", "tf2onnx")}


def _write_atomically(path: Path, data: bytes) -> None:
    try:
        make_folder(path.parent)
        # By the rules of the cache and not as `whole_file`: this is a folder of the cache, whose
        # sweeps know what a killed process left and what another one is writing now.
        remove_abandoned_temporaries(path.parent)
        with new_temporary(path.parent) as file:
            if hasattr(os, "fchmod"):  # a graph that a group may write would not be believed
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o755)
            publish(file, data, path)
    except OSError as error:
        raise CacheError(
            f"{path}: cannot be written ({error.strerror}); make room or give another "
            "--bottleneck-dir, and run the command again"
        ) from error


def _own_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file that nobody else can write; None where it is no such file."""
    try:
        with open_regular(file, follow_link=False) as stream:
            if is_private(os.fstat(stream.fileno())):
                return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type] # a FileIO
    except OSError as error:
        log.debug("%s: %s", file, error.strerror)
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, _MOST_BYTES, follow_link=False)
    except (OSError, ValueError):
        return {}  # a memo that cannot be read counts as absent
    return values if isinstance(values, dict) else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    _write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
