"""The base of a bundle that is deployed already, taken over to the byte."""

import shutil
from pathlib import Path

from fic_runtime.bundle import Bundle
from fic_runtime.errors import BundleError
from fic_runtime.manifest import Manifest


def copy_base(deployed: Bundle, folder: Path, manifest: Manifest) -> None:
    """Copy the files of the base of `deployed` into `folder`.

    Args:
        deployed: a whole bundle.
        folder: where the copies go.
        manifest: what shall be around the base: the same names, shapes and preprocessing.

    Raises:
        BundleError: `deployed` has no base, or one of another kind.
        OSError: a file cannot be copied.
    """
    place, theirs = deployed.files.path(""), deployed.manifest
    if theirs.head_only:
        raise BundleError(f"{place}: is a head without its base; give the bundle that has the base")
    for what, found, wanted in (
        ("the size or resizing of pictures", theirs.preprocessing, manifest.preprocessing),
        ("the shape of the bottleneck or of pictures", theirs.base, manifest.base),
    ):
        if found != wanted:
            raise BundleError(
                f"{place}: differs from the classifier to be exported in {what}; train the head on "
                "the base of this bundle, with the same options, or give the bundle of its own base"
            )
    for file in theirs.base_files:
        model = deployed.files.model(file)
        if isinstance(model, bytes):
            (folder / file).write_bytes(model)
        else:  # may be larger than the memory
            shutil.copyfile(model, folder / file)
