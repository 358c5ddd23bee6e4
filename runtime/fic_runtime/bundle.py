"""A bundle on disk: its manifest, and its files checked against their digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError
from .manifest import GraphSpec, Manifest, read_manifest

BASE_FILE = "base.onnx"
HEAD_FILE = "head.onnx"
LABELS_FILE = "labels.txt"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Bundle:
    """A folder that `fic export` wrote; use `open_bundle` to get one that was checked."""

    folder: Path
    manifest: Manifest

    def path(self, file: str | GraphSpec) -> Path:
        """Return where a file of the bundle lies."""
        return self.folder / (file.file if isinstance(file, GraphSpec) else file)


def open_bundle(folder: str | Path) -> Bundle:
    """Read the manifest and check every file that it names.

    Raises:
        BundleError: the folder is no bundle, or a file is missing or not what was exported.
    """
    folder = Path(folder)
    bundle = Bundle(folder, read_manifest(folder))
    for file, expected in bundle.manifest.files.items():
        if file_digest(bundle.path(file)) != expected:
            raise BundleError(
                f"{bundle.path(file)}: does not match its checksum in the manifest; "
                "copy the bundle again or export it again"
            )
    return bundle


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a bundle's file in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); copy the bundle again or export it again"
        ) from error
