"""`fic export`: a run becomes a bundle."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fic_export.bundle import export_bundle, export_head
from fic_export.bundle.head_only import check_no_base_at
from fic_export.options import Bounds
from fic_export.quantization import MAX_ACCURACY_DROP, Scheme
from fic_export.results import check_place
from fic_export.signing import check_signing
from fic_runtime.bundle import MANIFEST_FILE, open_bundle
from fic_runtime.bundle.manifest import Manifest

from ..errors import RunError
from ..progress import Progress, Silence
from ..runs import Run
from .fits import ReliabilityOptions, measure_reliability, teaching_of
from .pictures import calibration_files, comparison_pictures

_PICTURES = 200
_CALIBRATION_PICTURES = 128


def export_run(
    run: str | Path,
    *,
    out: str | Path,
    head_only: bool = False,
    deployed: str | Path | None = None,
    max_difference: float = Bounds.max_difference,
    min_agreement: float = Bounds.min_agreement,
    min_accuracy: float | None = None,
    pictures: int = _PICTURES,
    data: Path | None = None,
    bottleneck_dir: Path | None = None,
    reliability: ReliabilityOptions | None = None,
    single_graph: bool = False,
    sign: Path | None = None,
    quantize: Scheme | None = None,
    max_accuracy_drop: float = MAX_ACCURACY_DROP,
    calibration_pictures: int = _CALIBRATION_PICTURES,
    calibration_data: Path | None = None,
    with_feature_map: bool = False,
    teachable: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Export a run as a bundle, compared with Keras on real pictures of its data set.

    Args:
        run: folder that `fic train` wrote.
        out: the bundle's folder, or an archive ending in .zip; an earlier bundle is replaced.
        head_only: write the head alone, some kilobytes for a base that is deployed already.
        deployed: with `head_only`, the bundle that has this base; by default the head fits the
            base that `export_run` writes for the run.
        max_difference: of any probability between Keras and the bundle.
        min_agreement: share of the pictures for which both must name the same class.
        min_accuracy: share of the pictures whose class the bundle must name.
        pictures: how many to compare on, spread over the classes.
        data: folder or CSV file of pictures to compare on instead of the run's validation
            pictures; of a CSV file with the column `split`, those marked `val`.
        bottleneck_dir: the cache that holds or gets the converted base, if not the run's own.
        reliability: whether and how probabilities are calibrated and unknown pictures told.
        single_graph: write base and head fused in one file as well.
        sign: PEM file with the private key that signs the bundle.
        quantize: write the base in fewer bits, `int8` or `fp16`; the head stays float32.
        max_accuracy_drop: how much accuracy a quantized base may lose, or a head on a `deployed`
            base that is quantized; the bounds on difference and agreement do not count there.
        calibration_pictures: on how many training pictures the ranges of int8 are measured, spread
            over the classes.
        calibration_data: folder or CSV file of training pictures, if the run's have moved.
        with_feature_map: let the bundle explain its answers (`Classifier.explain`).
        teachable: let a device learn more classes (`Classifier.teach`).

    Raises:
        DataError: the foreign pictures of `reliability` cannot be read.
        RunError: the run cannot be used, its pictures are gone, or `deployed` has another base.
        BundleError: `deployed` cannot be read.
        ConversionError, ParityError, SigningError, OutputError: see `fic_export.export_bundle`.
    """
    trained, out, progress = Run(Path(run), bottleneck_dir), Path(out), progress or Silence()
    check_place(out, mark=MANIFEST_FILE)
    if deployed is not None and not head_only:
        raise ValueError("deployed is for head_only: a whole bundle has a base of its own")
    if head_only and single_graph:
        raise ValueError("single_graph is for a whole bundle: a head has no base to fuse with")
    if head_only and quantize is not None:
        raise ValueError("quantize is for a whole bundle: a head has no base")
    if head_only:
        check_no_base_at(out)
    if sign is not None:
        check_signing(sign)
    base = trained.frozen_base()
    origin = {
        "base": base.spec.name,
        "weights": base.fingerprint.weights,
        "tensor": base.fingerprint.tensor,
        "pooling": base.fingerprint.pooling,
    }
    if deployed is not None:
        _check_origin(origin, Path(deployed), trained)
    geometry = base.preprocessing.geometry
    chosen = comparison_pictures(trained, data, geometry, pictures)
    calibration = None
    if quantize == "int8":
        calibration = calibration_files(trained, calibration_data, geometry, calibration_pictures)
    graph = None
    if deployed is None:
        progress.note(f"converting {base.spec.name}")
        graph = base.graph_file().read_bytes()
    head = trained.head()
    measured = measure_reliability(
        trained, base, head, reliability or ReliabilityOptions(), progress
    )
    teaching = teaching_of(trained, progress) if teachable else None
    write = (
        partial(export_head, deployed=deployed, max_accuracy_drop=max_accuracy_drop)
        if head_only
        else partial(
            export_bundle,
            single_graph=single_graph,
            quantize=quantize,
            calibration_files=calibration,
            max_accuracy_drop=max_accuracy_drop,
        )
    )
    known = {label for _, label in chosen} <= set(trained.labels)
    bounds = Bounds(
        max_difference=max_difference, min_agreement=min_agreement, min_accuracy=min_accuracy
    )
    progress.start("comparing", len(chosen), unit="image")
    try:
        return write(
            base.model,
            head,
            labels=trained.labels,
            preprocessing=base.preprocessing,
            pictures=[path for path, _ in chosen],
            targets=[trained.labels.index(label) for _, label in chosen] if known else None,
            out=out,
            bounds=bounds,
            base_graph=graph,
            origin=origin,
            with_feature_map=with_feature_map,
            # The matrix grows with the square of the classes, and devices have no use for it.
            metrics={
                name: value
                for name, value in trained.metrics["val"].items()
                if name != "confusion_matrix"
            },
            calibration=measured.calibration,
            known=measured.known,
            teaching=teaching,
            sign=sign,
            progress=progress.advance,
        )
    finally:
        progress.finish()


def _check_origin(origin: Mapping[str, str | None], deployed: Path, run: Run) -> None:
    """Refuse at once what the comparison would find to differ, and say why."""
    theirs = open_bundle(deployed).manifest.origin
    for name, ours in origin.items():
        if theirs.get(name, ours) != ours:
            raise RunError(
                f"{run.folder}: was trained on a base with the {name} {ours}, {deployed} has one "
                f"with {theirs[name]}; give --base a bundle of the same base, or train on that one"
            )
