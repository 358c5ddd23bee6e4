"""A bundle that is being written."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fic_runtime.bundle import MANIFEST_FILE
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.bundle.opening import file_digest


@dataclass
class Draft:
    """A folder that becomes a bundle, and its manifest as far as it is known."""

    folder: Path
    manifest: Manifest

    def note(self, **fields: Any) -> None:
        """Put fields into the manifest."""
        self.manifest = replace(self.manifest, **fields)

    def write_manifest(self) -> None:
        """Write `manifest.json` with the digests of the files that are there by now."""
        names = sorted(path.name for path in self.folder.iterdir() if path.name != MANIFEST_FILE)
        self.note(files={name: file_digest(self.folder / name) for name in names})
        (self.folder / MANIFEST_FILE).write_text(self.manifest.to_json(), encoding="utf-8")
