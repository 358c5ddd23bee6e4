"""A bundle on disk: its manifest, and its files checked against their digests."""

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import BundleError
from .files import BundleFiles, CheckedFiles, bundle_files
from .graph_contents import KNOWN_TYPES, read_contents
from .manifest import MANIFEST_FILE, Manifest, read_manifest
from .names import MOST_BYTES, MOST_WEIGHTS

BASE_FILE = "base.onnx"
HEAD_FILE = "head.onnx"
LABELS_FILE = "labels.txt"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "README.md"
CLASS_WEIGHTS_FILE = "class_weights.npz"
TEACHING_FILE = "teaching.npz"
_GRAPH_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Bundle:
    """What `fic export` wrote; use `open_bundle` to get one that was checked.

    Attributes:
        files: where the files lie; each is compared with its digest whenever it is read.
        manifest: what is said of them.
        path: the absolute path of the folder or archive.
        weights: of each graph, the files that hold weights of it.
        graphs: the graphs that were looked into, by name, until they are open; see `released`.
        public_key: whose holder has signed it; None if nobody looked.
    """

    files: BundleFiles
    manifest: Manifest
    path: Path
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graphs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    public_key: Path | None = None

    def model(self, file: str) -> Path | bytes:
        """Return a graph as ONNX Runtime takes it: the very bytes that were looked into.

        Of a graph with weights in files of their own, the path: ONNX Runtime finds them beside it.

        Raises:
            BundleError: it is another one by now, or gone.
        """
        return self.graphs[file] if file in self.graphs else self.checked_model(file)

    def checked_model(self, file: str) -> Path | bytes:
        """Return a graph as ONNX Runtime takes it, if it is still the one that was looked into.

        Raises:
            BundleError: it is another one by now, or gone.
        """
        # The path is absolute: the working folder may be another one by now.
        files = CheckedFiles(bundle_files(self.path), self.manifest.files)
        beside = self.weights.get(file, ())
        try:
            if not beside:
                return files.read(file)
            for name in (file, *beside):
                files.digest(name, MOST_WEIGHTS)
        except OSError as error:
            raise _unreadable(files.path(file), error) from error
        return files.path(file)

    def graph_digest(self, file: str) -> str:
        """Return what identifies a graph: its SHA-256, and those of its files of weights."""
        return " ".join(self.manifest.files[name] for name in (file, *self.weights[file]))

    def released(self) -> "Bundle":
        """Return the bundle without the graphs that it holds in memory."""
        return replace(self, graphs={})


def open_bundle(
    path: str | os.PathLike[str], *, public_key: str | os.PathLike[str] | None = None
) -> Bundle:
    """Read the manifest of a folder or zip archive and check every file that it names.

    Of a head-only bundle the files of the base are elsewhere; `heads.open_head` compares them.

    Args:
        path: the folder or archive.
        public_key: a PEM file; the holder of its private key must have signed every file.

    Raises:
        BundleError: a bundle is not there, or a file is missing or not what was exported.
        SignatureError: it was not signed with this key, or changed since.
        SigningError: the package `cryptography` is missing, or the file holds no such key.
    """
    found = bundle_files(Path(path))
    if public_key is None:
        manifest = read_manifest(found)
        files = CheckedFiles(found, manifest.files)
    else:
        manifest, files = _signed(found, public_key)
    needed = {manifest.head.file}
    if not manifest.head_only:
        needed.add(manifest.base.file)
    weights: dict[str, tuple[str, ...]] = {}
    graphs: dict[str, bytes] = {}
    for file in manifest.own_files:
        try:
            if file.lower().endswith(_GRAPH_SUFFIX):
                graph = files.read(file)
                weights[file] = _check_contents(files, file, graph, manifest)
                if file in needed and not weights[file]:
                    graphs[file] = graph
                del graph
            elif file == LABELS_FILE:
                _check_labels(files, manifest)
            else:
                files.digest(file, MOST_WEIGHTS if file in manifest.base_files else MOST_BYTES)
        except OSError as error:
            raise _unreadable(files.path(file), error) from error
        except MemoryError as error:
            raise _too_much(files.path(file)) from error
    key = None if public_key is None else Path(public_key)
    return Bundle(files, manifest, Path(path).absolute(), weights, graphs, key)


def _signed(
    found: BundleFiles, public_key: str | os.PathLike[str]
) -> tuple[Manifest, CheckedFiles]:
    """Return the manifest that was signed, and the files as they were signed.

    No file is read twice for it: the digests of the manifest have to be those of the signature.
    """
    from .signature import SIGNATURE_FILE, not_signed, signed_digests

    signed = signed_digests(found, public_key)
    root = found.path("")
    files = CheckedFiles(found, signed, lambda path: not_signed(root, [path.name]))
    manifest = read_manifest(files)
    changed = {
        name for name, digest in manifest.own_files.items() if signed.get(name, digest) != digest
    }
    changed |= manifest.own_files.keys() - signed.keys()
    if changed:
        raise not_signed(root, changed)
    for name in signed.keys() - manifest.own_files.keys() - {MANIFEST_FILE, SIGNATURE_FILE}:
        files.digest(name)
    return manifest, files


def _check_contents(
    files: BundleFiles, file: str, model: bytes, manifest: Manifest
) -> tuple[str, ...]:
    """Refuse a graph that would run code, or read files, that are not of the bundle.

    Return the files that hold weights of it.
    """
    path = files.path(file)
    try:
        contents = read_contents(model)
    except ValueError as error:
        raise BundleError(
            f"{path}: is not an ONNX graph ({error}); export the bundle again"
        ) from None
    if contents.custom:
        raise BundleError(
            f"{path}: uses custom operators ({reprlib.repr(sorted(contents.custom))}), which this "
            "runtime never loads; export it from layers that ONNX has operators for"
        )
    if contents.control_flow:
        raise BundleError(
            f"{path}: holds loops or branches ({reprlib.repr(sorted(contents.control_flow))}), "
            "which may run for ever, and this runtime never loads; export it from layers without"
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
        if not files.in_folder:
            raise BundleError(
                f"{path}: has its weights in a file beside it, which ONNX Runtime cannot read "
                "inside an archive; unpack the archive and give the folder"
            )
    return tuple(sorted(contents.locations))


def _check_labels(files: BundleFiles, manifest: Manifest) -> None:
    """Make sure that other programs, which read `labels.txt`, have the labels that are served."""
    expected = "".join(f"{label}\n" for label in manifest.labels).encode()
    found = files.read(LABELS_FILE)
    if found.replace(b"\r\n", b"\n") != expected:  # as export once wrote them on Windows
        raise BundleError(
            f"{files.path(LABELS_FILE)}: holds other labels than the manifest; export the bundle "
            "again"
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a bundle's file in hex."""
    try:
        return bundle_files(path.parent).digest(path.name, MOST_WEIGHTS)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path}: cannot be read ({error.strerror}); copy the bundle again or export it again"
    )


def _too_much(path: Path) -> BundleError:
    return BundleError(
        f"{path}: takes more memory than there is; free some or use a smaller bundle"
    )
