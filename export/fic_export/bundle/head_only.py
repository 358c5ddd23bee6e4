"""Export a head alone, for a base that is deployed already."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle import CARD_FILE, MANIFEST_FILE, Bundle, open_bundle
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.head_only import files_of_the_head, head_files
from fic_runtime.bundle.manifest import Manifest, read_manifest
from fic_runtime.errors import BundleError
from fic_runtime.heads.statistics import ClassStatistics
from fic_runtime.preprocessing import Preprocessing
from fic_runtime.results import replacing_result

from ..errors import OutputError, ParityError
from ..fits.out_of_distribution import FittedScore
from ..fits.temperature import Calibration
from ..quantization import MAX_ACCURACY_DROP
from ..signing import check_signing, sign_folder
from .export import export_bundle
from .model_card import model_card
from .parity import Bounds

if TYPE_CHECKING:
    import keras


def export_head(
    base: "keras.Model",
    head: "keras.Model",
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    pictures: Sequence[str | Path] | None = None,
    targets: Sequence[int] | None = None,
    out: str | Path,
    deployed: str | Path | None = None,
    bounds: Bounds | None = None,
    base_graph: bytes | None = None,
    with_feature_map: bool = False,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    known: FittedScore | None = None,
    max_accuracy_drop: float = MAX_ACCURACY_DROP,
    teaching: ClassStatistics | None = None,
    sign: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Export a Keras head without its base, and return the manifest that was written.

    The head is compared with the Keras models on the very base that it is for. It works with each
    bundle whose base is that one to the byte: `Classifier(bundle, head=out)`.

    Args:
        base: what `head` was trained on; see `export_bundle` for this and for all others.
        head: from bottleneck to probabilities.
        labels: the class names.
        preprocessing: what turns a picture into the base's input.
        pictures: real image files on which the graphs are compared with the Keras models; see
            `export_bundle`.
        targets: for each of `pictures` the index of its label.
        out: the head's folder, or its archive if the name ends in .zip.
        deployed: the bundle that has the base; by default the base is converted, which gives the
            same bytes each time with the same versions of the libraries.
        bounds: how far the graphs may be from the Keras models.
        base_graph: the ONNX graph of `base` if it was converted before.
        with_feature_map: let the head explain its answers, on a base that has its feature map.
        origin: where the base comes from.
        metrics: what the training measured.
        calibration: the temperature of the head.
        known: what tells strange pictures.
        max_accuracy_drop: how much accuracy the head may lose on a base that is quantized, where
            the bounds on differences and agreement do not count.
        teaching: what lets a device learn more classes.
        sign: PEM file with the private key that signs the head; see `fic_export.signing`.
        progress: called with the number of pictures just compared.

    Raises:
        BundleError: `deployed` cannot be used, or its base is of another kind.
        ConversionError, ParityError, ImageError, SigningError, ValueError: see `export_bundle`.
        OutputError: `out` holds something that is not a head, or cannot be written.
    """
    out = Path(out)
    check_no_base_at(out)
    if sign is not None:
        check_signing(Path(sign))
    opened = None if deployed is None else open_bundle(deployed)
    try:
        with (
            replacing_result(out, mark=MANIFEST_FILE) as folder,
            # Beside the result: the folder for temporary files may be a small part of the memory.
            tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
        ):
            export_bundle(
                base,
                head,
                labels=labels,
                preprocessing=preprocessing,
                pictures=pictures,
                targets=targets,
                out=Path(scratch) / "bundle",
                bounds=bounds,
                base_graph=base_graph,
                deployed=opened,
                with_feature_map=with_feature_map,
                origin=origin,
                metrics=metrics,
                calibration=calibration,
                known=known,
                max_accuracy_drop=max_accuracy_drop,
                teaching=teaching,
                progress=progress,
            )
            manifest, files = without_base(open_bundle(Path(scratch) / "bundle"))
            for file, data in files.items():
                (folder / file).write_bytes(data)
            if sign is not None:
                sign_folder(folder, Path(sign))
            check_no_base_at(out)  # again: this may have taken minutes
            return manifest
    except ParityError as error:
        if deployed is None:
            raise
        raise ParityError(f"on the base of {deployed}: {error}") from error
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); free space or give another "
            "place"
        ) from error


def without_base(bundle: Bundle) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and all files of the head-only bundle that a whole one comes to."""
    files = files_of_the_head(bundle)
    draft = Manifest.from_json(head_files(bundle.manifest, files)[MANIFEST_FILE].decode())
    files = head_files(draft, {**files, CARD_FILE: model_card(draft).encode()})
    return Manifest.from_json(files[MANIFEST_FILE].decode()), files


def check_no_base_at(out: Path) -> None:
    """Make sure that no whole bundle is replaced by a head, which could not do without it.

    Raises:
        OutputError: there is one.
    """
    try:
        there = read_manifest(bundle_files(out))
    except (BundleError, OSError):
        return  # nothing there, or nothing whole
    if not there.head_only:
        raise OutputError(f"{out}: holds a whole bundle; give the head a place of its own")
