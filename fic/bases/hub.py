"""Bases of the Hugging Face hub: `hf://ORG/NAME[@REVISION][:PATH]`.

The library of the hub does the work, so its settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE. What is recorded of a base is the commit, never a branch: a run means the same files
for ever.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fic_runtime.bundle.names import MOST_BYTES, MOST_WEIGHTS

from ..errors import BaseOptionError, WeightsError, one_line
from .files import HUB, KERAS_SUFFIX, ONNX_SUFFIX, BaseFile
from .preprocessor import CONFIG_FILE, MODEL_FILE
from .preprocessor import MOST_BYTES as MOST_CONFIG_BYTES

log = logging.getLogger(__name__)

# Where publishers put the graph, and what is taken where nothing else is said.
CANDIDATES = ("onnx/model.onnx", "model.onnx")
_CONFIGS = (CONFIG_FILE, MODEL_FILE)
_DEFAULT_REVISION = "main"

_MOST_FILES = 64  # of weights beside a graph
_ETAG = re.compile(r"[A-Za-z0-9_-]{1,128}")  # digests
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFERENCE = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@]+))?(?::(?P<path>[^:@]+))?"
)


@dataclass(frozen=True)
class HubReference:
    """What `hf://ORG/NAME[@REVISION][:PATH]` says."""

    repository: str
    revision: str | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubReference":
        """Read a reference.

        Raises:
            BaseOptionError: it has another form.
        """
        match = _REFERENCE.fullmatch(text.removeprefix(HUB))
        if match is None:
            raise BaseOptionError(
                f"--base-model {text}: has not the form {HUB}ORG/NAME[@REVISION][:PATH]"
            )
        reference = cls(**match.groupdict())
        path = reference.path
        if path is not None and not path.endswith((ONNX_SUFFIX, KERAS_SUFFIX)):
            raise BaseOptionError(
                f"--base-model {text}: {path} ends neither in {ONNX_SUFFIX} nor in {KERAS_SUFFIX}"
            )
        return reference

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{HUB}{self.repository}{revision}" + ("" if self.path is None else f":{self.path}")


def hub_file(base_model: str, *, needed: bool = True) -> BaseFile:
    """Return a network of the hub, downloaded unless it is here.

    Args:
        base_model: the reference.
        needed: whether its configs must be known: a run has what they said.

    Raises:
        BaseOptionError: the reference has another form.
        WeightsError: the hub does not give it: no such repository, revision or file, no access, no
            network; or the library of the hub is missing.
    """
    reference = HubReference.parse(base_model)
    hub = _Hub(reference)
    reference = hub.pinned()
    assert reference.path is not None and reference.revision is not None
    path = hub.fetched(reference, reference.path)
    folder = path
    for _ in Path(reference.path).parts:
        folder = folder.parent
    if reference.path.endswith(ONNX_SUFFIX):
        from fic_runtime.bundle.graph_contents import contents_of_file

        try:
            locations = sorted(contents_of_file(path).locations)
        except ValueError:
            locations = []  # which reading the graph tells of
        if len(locations) > _MOST_FILES:
            raise WeightsError(
                f"{reference}: has weights in {len(locations)} files; give a graph with fewer"
            )
        for location in locations:
            beside = (Path(reference.path).parent / location).as_posix()
            if ".." not in beside and not beside.startswith("/"):
                hub.fetched(reference, beside, MOST_WEIGHTS)
    for config in _CONFIGS if needed else ():
        hub.fetch_if_there(reference, config)
    return BaseFile(
        path=path,
        name=str(reference),
        base_model=str(reference),
        folder=folder,
        source={
            "repository": reference.repository,
            "revision": reference.revision,
            "file": reference.path,
        },
    )


class _Hub:
    """The hub's library, with its errors as sentences."""

    def __init__(self, reference: HubReference) -> None:
        try:
            import huggingface_hub
            from huggingface_hub import constants, errors
        except ImportError:
            raise WeightsError(
                f"{reference}: needs the library of the Hugging Face hub; "
                'pip install "fast-image-classification[hub]"'
            ) from None
        self._library: Any = huggingface_hub
        self._settings: Any = constants
        self._errors: Any = errors
        self._reference = reference

    def pinned(self) -> HubReference:
        """Return the reference with its commit and its path."""
        own = self._reference
        if own.path is not None and own.revision is not None and _COMMIT.fullmatch(own.revision):
            return own  # nothing to be asked: a warm run needs no network
        if self._settings.HF_HUB_OFFLINE:
            return self._pinned_offline()
        path = own.path
        if path is None:
            info = self._asked(
                lambda: self._library.HfApi().model_info(own.repository, revision=own.revision),
                own.repository,
            )
            path = self._choice([sibling.rfilename for sibling in info.siblings or ()])
        # By its branch, so that the library remembers which commit that is, for HF_HUB_OFFLINE.
        branch = HubReference(own.repository, own.revision or _DEFAULT_REVISION, path)
        return replace(branch, revision=_commit_of(self.fetched(branch, path), path))

    def _pinned_offline(self) -> HubReference:
        """Return the reference as far as the cache of the hub's library knows it."""
        own = self._reference
        revision = own.revision or _DEFAULT_REVISION
        for path in (own.path,) if own.path else CANDIDATES:
            found = self._library.try_to_load_from_cache(own.repository, path, revision=revision)
            if isinstance(found, str):
                return HubReference(own.repository, _commit_of(Path(found), path), path)
        raise WeightsError(
            f"{own}: is not in the cache of the hub's library, and HF_HUB_OFFLINE forbids to "
            "download it; unset it once"
        )

    def _choice(self, names: Sequence[str]) -> str:
        for candidate in CANDIDATES:
            if candidate in names:
                return candidate
        graphs = [name for name in names if name.endswith((ONNX_SUFFIX, KERAS_SUFFIX))]
        if len(graphs) == 1:
            return graphs[0]
        if not graphs:
            raise WeightsError(
                f"{self._reference}: holds no ONNX file; give a repository that has one, such as "
                "those with an onnx/ folder, or export one"
            )
        shown = ", ".join(graphs[:6])
        raise WeightsError(
            f"{self._reference}: has neither {' nor '.join(CANDIDATES)}; say which file with "
            f"{HUB}{self._reference.repository}:PATH ({shown})"
        )

    def fetched(self, pinned: HubReference, path: str, most: int = MOST_BYTES) -> Path:
        """Return a file of the repository, of at most so many bytes, downloaded unless it is here.

        Raises:
            WeightsError: it is larger, or the hub does not give it.
        """
        self._check(pinned, path, most)
        return Path(
            self._asked(
                lambda: self._library.hf_hub_download(
                    pinned.repository, path, revision=pinned.revision
                ),
                path,
            )
        )

    def fetch_if_there(self, pinned: HubReference, path: str) -> None:
        """Download a file of the repository, if it has it."""
        known = self._library.try_to_load_from_cache(
            pinned.repository, path, revision=pinned.revision
        )
        if known is not None:
            return  # here, or known not to be there
        self._check(pinned, path, MOST_CONFIG_BYTES)
        try:
            self._library.hf_hub_download(pinned.repository, path, revision=pinned.revision)
        except (self._errors.LocalEntryNotFoundError, self._errors.OfflineModeIsEnabled) as error:
            if not self._settings.HF_HUB_OFFLINE:
                raise self._sentence(error, path) from error
            log.debug("%s: not in the cache", path)
        except self._errors.EntryNotFoundError:
            return
        except Exception as error:  # as in `_asked`
            raise self._sentence(error, path) from error

    def _check(self, pinned: HubReference, path: str, most: int) -> None:
        """Refuse a file before it is downloaded: one without end would fill the disk.

        Raises:
            WeightsError: it is larger, or is called what would be a path on this disk.
        """
        library, where = self._library, (pinned.repository, path)
        if _COMMIT.fullmatch(pinned.revision or "") and isinstance(
            library.try_to_load_from_cache(*where, revision=pinned.revision), str
        ):
            return
        try:
            url = library.hf_hub_url(*where, revision=pinned.revision)
            found = library.get_hf_file_metadata(url)
        except Exception as error:  # the download says it in a sentence, or does without a network
            log.debug("%s: %s", path, one_line(error))
            return
        if (found.size or 0) > most:
            raise WeightsError(
                f"{pinned}: {path} has {found.size} bytes, more than the {most} that it may have; "
                "give another file"
            )
        # The library calls its copy so, wherever that is.
        if not _ETAG.fullmatch(found.etag or ""):
            raise WeightsError(
                f"{pinned}: the hub calls {path} {(found.etag or '')[:100]!r}, which no hub does; "
                "check HF_ENDPOINT"
            )

    def _asked(self, question: Any, what: str) -> Any:
        try:
            return question()
        # The library raises its own errors, those of the client that it uses, and OSError.
        except Exception as error:
            raise self._sentence(error, what) from error

    def _sentence(self, error: Exception, what: str) -> WeightsError:
        errors, own = self._errors, self._reference
        if isinstance(error, errors.GatedRepoError):
            reason = "is gated: accept its terms on the hub, and set HF_TOKEN to a token of yours"
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason = (
                "no such repository, or a private one; check its name, or set HF_TOKEN to a token "
                "that may read it"
            )
        elif isinstance(error, errors.RevisionNotFoundError):
            reason = f"has no revision {own.revision}; give a branch, a tag or a commit of it"
        elif isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            reason = (
                f"{what} is not here, and the hub cannot be reached; check the network, "
                "HF_ENDPOINT and HF_HUB_OFFLINE"
            )
        elif isinstance(error, errors.EntryNotFoundError):
            reason = f"has no {what}; give another path after a colon"
        else:
            reason = (
                f"{what} could not be downloaded ({one_line(error)}); run again, or check the "
                "network and HF_ENDPOINT"
            )
        return WeightsError(f"{own}: {reason}")


def _commit_of(file: Path, path: str) -> str:
    """Return the commit of a file in the library's cache: .../snapshots/COMMIT/PATH."""
    return file.parents[len(Path(path).parts) - 1].name
