"""A bundle under way, and the base of another bundle copied into it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fic_runtime.bundle import MANIFEST_FILE, Bundle
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.bundle.opening import file_digest
from fic_runtime.errors import BundleError

from ..errors import OutputError
from ..graphs.files import weights_file


@dataclass
class Draft:
    """A folder that becomes a bundle, and its manifest as far as it is known."""

    folder: Path
    manifest: Manifest

    def note(self, **fields: Any) -> None:
        """Put fields into the manifest."""
        self.manifest = replace(self.manifest, **fields)

    def drop_base(self) -> None:
        """Remove the base's files; their digests stay, and tell which base the head is for."""
        base = self.manifest.base_files
        for file in base:
            (self.folder / file).unlink()
        self.note(head_only=True, files=base)

    def write_manifest(self) -> None:
        """Write `manifest.json` with the digests of the files that are there by now."""
        names = [path.name for path in self.folder.iterdir() if path.name != MANIFEST_FILE]
        files = {name: file_digest(self.folder / name) for name in names}
        if self.manifest.head_only:
            files |= self.manifest.base_files
        self.note(files=dict(sorted(files.items())))
        (self.folder / MANIFEST_FILE).write_text(self.manifest.to_json(), encoding="utf-8")


def check_fits(folder: Path, out: Path) -> None:
    """Make sure that a bundle whose graphs are written may become what `out` says.

    Raises:
        OutputError: ONNX Runtime could not open a graph from an archive, since its weights are in
            a file beside it.
    """
    if out.suffix.lower() == ".zip":
        for path in sorted(folder.glob("*.onnx")):
            if path.with_name(weights_file(path.name)).exists():
                raise OutputError(
                    f"{out}: {path.name} is larger than 2 GB, so its weights are in a file of "
                    "their own, which cannot be read inside an archive; give a folder"
                )


def copy_base(deployed: Bundle, draft: Draft) -> None:
    """Copy the files of the base of `deployed` into a draft, and what its manifest says of them.

    Args:
        deployed: a whole bundle.
        draft: where the copies go; its manifest has the same names, shapes and preprocessing.

    Raises:
        BundleError: `deployed` has no base, or one of another kind.
        OSError: a file cannot be copied.
    """
    path, theirs = deployed.files.path(""), deployed.manifest
    if theirs.head_only:
        raise BundleError(f"{path}: is a head without its base; give the bundle that has the base")
    for what, found, wanted in (
        ("the size or resizing of pictures", theirs.preprocessing, draft.manifest.preprocessing),
        ("the shape of the bottleneck or of pictures", theirs.base, draft.manifest.base),
    ):
        if found != wanted:
            raise BundleError(
                f"{path}: differs from the classifier to be exported in {what}; train the head on "
                "the base of this bundle, with the same options, or give the bundle of its own base"
            )
    for file, digest in theirs.base_files.items():
        if file == theirs.base.file:
            (draft.folder / file).write_bytes(deployed.files.read(file))
            continue
        # Weights beside the graph may be larger than the memory.
        shutil.copyfile(deployed.files.path(file), draft.folder / file)
        if file_digest(draft.folder / file) != digest:
            raise BundleError(
                f"{path}: its {file} was changed while it was copied; give a bundle that nobody "
                "writes meanwhile"
            )
    draft.note(feature_map=theirs.feature_map, quantization=theirs.quantization)
