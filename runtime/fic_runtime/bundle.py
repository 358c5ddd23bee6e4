"""A bundle on disk: its manifest, and its files checked against their digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .bundle_files import BundleFiles, bundle_files
from .errors import BundleError
from .manifest import Manifest, read_manifest

BASE_FILE = "base.onnx"
HEAD_FILE = "head.onnx"
LABELS_FILE = "labels.txt"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Bundle:
    """What `fic export` wrote; use `open_bundle` to get one that was checked."""

    files: BundleFiles
    manifest: Manifest


def open_bundle(place: str | Path) -> Bundle:
    """Read the manifest of a folder or zip archive and check every file that it names.

    Raises:
        BundleError: there is no bundle, or a file is missing or not what was exported.
    """
    files = bundle_files(Path(place))
    bundle = Bundle(files, read_manifest(files))
    for file, expected in bundle.manifest.files.items():
        try:
            found = files.digest(file)
        except OSError as error:
            raise _unreadable(files.path(file), error) from error
        if found != expected:
            raise BundleError(
                f"{files.path(file)}: does not match its checksum in the manifest; "
                "copy the bundle again or export it again"
            )
    return bundle


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
