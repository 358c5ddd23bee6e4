"""Export a head alone, for a base that is deployed already."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import Manifest, read_manifest
from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Preprocessing

from ..errors import OutputError, ParityError
from ..options import BundleOptions, KerasClassifier, filled
from .export import FORMER_NAMES, write_bundle

if TYPE_CHECKING:
    import keras

# Options of the base, which a head alone does not write.
_OF_THE_BASE = ("quantize", "calibration_files", "single_graph")


def export_head(
    base: "keras.Model",
    head: "keras.Model",
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    pictures: Sequence[str | os.PathLike[str]] | None = None,
    targets: Sequence[int] | None = None,
    out: str | os.PathLike[str],
    **options: Any,
) -> Manifest:
    """Export a Keras head without its base, and return the manifest that was written.

    The head is compared with the Keras models on the very base that it is for. It works with each
    bundle whose base is that one to the byte: `Classifier(bundle, head=out)`.

    Args:
        base: what `head` was trained on; see `export_bundle` for this and for all others.
        head: from bottleneck to probabilities.
        labels: class names.
        preprocessing: how a picture becomes the base's input.
        pictures: real image files on which the graphs are compared with the Keras models.
        targets: for each of `pictures` the index of its label.
        out: the head's folder, or its archive if the name ends in .zip.
        **options: the other fields of `fic_export.options.BundleOptions` but those of the base.
            `deployed` is the bundle that has the base; by default the base is converted, which
            gives the same bytes each time with the same versions of the libraries.

    Raises:
        BundleError: `deployed` cannot be used, or its base is of another kind.
        ConversionError, ParityError, ImageError, SigningError, TypeError, ValueError: see
            `export_bundle`.
        OutputError: `out` holds something that is not a head, or cannot be written.
    """
    for name in _OF_THE_BASE:
        if name in options:
            raise TypeError(f"export_head() got an unexpected keyword argument {name!r}")
    classifier = KerasClassifier(
        base=base, head=head, labels=tuple(labels), preprocessing=preprocessing
    )
    given = {"pictures": pictures, "targets": targets, **options}
    chosen = filled(BundleOptions(), given, function="export_head", former=FORMER_NAMES)
    return write_head(classifier, Path(out), chosen)


def write_head(classifier: KerasClassifier, out: Path, options: BundleOptions) -> Manifest:
    """Write a head-only bundle, compared on the base that it is for.

    Raises:
        BundleError, ConversionError, ImageError, OutputError, ParityError, SigningError,
            ValueError: see `export_head`.
    """
    check_no_base_at(out)
    try:
        return write_bundle(classifier, out, options, head_only=True)
    except ParityError as error:
        if options.deployed is None:
            raise
        raise ParityError(f"on the base of {options.deployed}: {error}") from error


def check_no_base_at(out: Path) -> None:
    """Check that no whole bundle is replaced by a head, which could not do without it.

    Raises:
        OutputError: there is one.
    """
    try:
        there = read_manifest(bundle_files(out))
    except (BundleError, OSError):
        return  # nothing there, or nothing whole
    if not there.head_only:
        raise OutputError(f"{out}: holds a whole bundle; give the head a place of its own")
