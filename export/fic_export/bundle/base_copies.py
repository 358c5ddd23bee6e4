"""The base of a bundle that is deployed already, taken over to the byte."""

import shutil

from fic_runtime.bundle import Bundle
from fic_runtime.errors import BundleError

from .draft import Draft


def copy_base(deployed: Bundle, draft: Draft) -> None:
    """Copy the files of the base of `deployed` into a draft, and what its manifest says of them.

    Args:
        deployed: a whole bundle.
        draft: where the copies go; its manifest has the same names, shapes and preprocessing.

    Raises:
        BundleError: `deployed` has no base, or one of another kind.
        OSError: a file cannot be copied.
    """
    place, theirs = deployed.files.path(""), deployed.manifest
    if theirs.head_only:
        raise BundleError(f"{place}: is a head without its base; give the bundle that has the base")
    for what, found, wanted in (
        ("the size or resizing of pictures", theirs.preprocessing, draft.manifest.preprocessing),
        ("the shape of the bottleneck or of pictures", theirs.base, draft.manifest.base),
    ):
        if found != wanted:
            raise BundleError(
                f"{place}: differs from the classifier to be exported in {what}; train the head on "
                "the base of this bundle, with the same options, or give the bundle of its own base"
            )
    for file in theirs.base_files:
        model = deployed.files.model(file)
        if isinstance(model, bytes):
            (draft.folder / file).write_bytes(model)
        else:  # may be larger than the memory
            shutil.copyfile(model, draft.folder / file)
    draft.note(feature_map=theirs.feature_map, quantization=theirs.quantization)
