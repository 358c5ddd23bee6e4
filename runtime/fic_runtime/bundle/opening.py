"""A bundle on disk: its manifest, and its files checked against their digests."""

import hashlib
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BundleError
from .files import BundleFiles, bundle_files
from .graph_contents import KNOWN_TYPES, contents_of_file
from .manifest import Manifest, read_manifest

BASE_FILE = "base.onnx"
HEAD_FILE = "head.onnx"
LABELS_FILE = "labels.txt"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "README.md"
CLASS_WEIGHTS_FILE = "class_weights.npz"
TEACHING_FILE = "teaching.npz"


@dataclass(frozen=True)
class Bundle:
    """What `fic export` wrote; use `open_bundle` to get one that was checked.

    Attributes:
        files: where the files lie.
        manifest: what is said of them.
        path: the absolute path of the folder or archive.
        weights: of each graph, the files that hold weights of it.
    """

    files: BundleFiles
    manifest: Manifest
    path: Path
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def checked_model(self, file: str) -> Path | bytes:
        """Return a graph as ONNX Runtime takes it, if it is still the one that was opened.

        Raises:
            BundleError: it is another one by now, or gone.
        """
        files = bundle_files(self.path)  # the working folder may be another one by now
        for name in (file, *self.weights[file]):
            _check(files, name, self.manifest)
        return files.model(file)

    def graph_digest(self, file: str) -> str:
        """Return what identifies a graph: its SHA-256, and those of its files of weights."""
        return " ".join(self.manifest.files[name] for name in (file, *self.weights[file]))


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read the manifest of a folder or zip archive and check every file that it names.

    Of a head-only bundle the files of the base are elsewhere; `heads.open_head` compares them.

    Raises:
        BundleError: a bundle is not there, or a file is missing or not what was exported.
    """
    files = bundle_files(Path(path))
    manifest = read_manifest(files)
    for file in manifest.own_files:
        _check(files, file, manifest)
    graphs = [manifest.head] if manifest.head_only else [manifest.base, manifest.head]
    weights = {spec.file: _check_contents(files, spec.file, manifest) for spec in graphs}
    return Bundle(files, manifest, Path(path).absolute(), weights)


def _check(files: BundleFiles, file: str, manifest: Manifest) -> None:
    try:
        found = files.digest(file)
    except OSError as error:
        raise _unreadable(files.path(file), error) from error
    if found != manifest.files[file]:
        raise BundleError(
            f"{files.path(file)}: does not match its checksum in the manifest; "
            "copy the bundle again or export it again"
        )


def _check_contents(files: BundleFiles, file: str, manifest: Manifest) -> tuple[str, ...]:
    """Refuse a graph that would run code, or read files, that are not of the bundle.

    Return the files that hold weights of it.
    """
    path, model = files.path(file), files.model(file)
    try:
        contents = contents_of_file(model)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise BundleError(
            f"{path}: is not an ONNX graph ({error}); export the bundle again"
        ) from None
    if contents.custom:
        raise BundleError(
            f"{path}: uses custom operators ({reprlib.repr(sorted(contents.custom))}), which this "
            "runtime never loads; export it from layers that ONNX has operators for"
        )
    if unknown := sorted(contents.types - KNOWN_TYPES):
        raise BundleError(
            f"{path}: holds constants of element type {unknown[0]}, which this runtime does not "
            "know; upgrade fic-runtime or export the bundle again"
        )
    for location in sorted(contents.locations):
        # A name under a digest is one of the bundle's own folder: the manifest has no other.
        if location not in manifest.own_files:
            raise BundleError(
                f"{path}: has weights in {reprlib.repr(location)}, which is not a file of the "
                "bundle; export it again"
            )
        if isinstance(model, bytes):
            raise BundleError(
                f"{path}: has its weights in a file beside it, which ONNX Runtime cannot read "
                "inside an archive; unpack the archive and give the folder"
            )
    return tuple(sorted(contents.locations))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a bundle's file in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path}: cannot be read ({error.strerror}); copy the bundle again or export it again"
    )
