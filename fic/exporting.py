"""`fic export`: a run becomes a bundle."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path

from fic_export.archives import check_place
from fic_export.bundle import export_bundle
from fic_export.head_export import check_no_base_at, export_head
from fic_export.parity import Bounds
from fic_export.quantization import MAX_ACCURACY_DROP, Scheme
from fic_export.signing import check_signing
from fic_runtime.bundle import open_bundle
from fic_runtime.errors import ImageError
from fic_runtime.images import read_image
from fic_runtime.manifest import MANIFEST_FILE, Manifest
from fic_runtime.preprocessing import Geometry

from .errors import RunError
from .progress import Progress, Silence
from .reliability import ReliabilityOptions, measure_reliability
from .runs import Run
from .source import read_validation
from .training_pictures import training_pictures

log = logging.getLogger(__name__)

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
        max_accuracy_drop: how much accuracy a quantized base may lose.
        calibration_pictures: on how many training pictures the ranges of int8 are measured, spread
            over the classes.
        calibration_data: folder or CSV file of training pictures, if the run's have moved.
        with_feature_map: let the bundle explain its answers (`Classifier.explain`).

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
        "base": base.row.name,
        "weights": base.fingerprint.weights,
        "tensor": base.fingerprint.tensor,
        "pooling": base.fingerprint.pooling,
    }
    if deployed is not None:
        _check_origin(origin, Path(deployed), trained)
    geometry = base.preprocessing.geometry
    by_class = _pictures_by_class(trained, data)
    candidates = (each for each in in_turn(by_class) if _is_readable(each[0], geometry))
    chosen = list(islice(candidates, pictures))
    if not chosen:
        raise RunError(
            f"{data or trained.folder}: none of its pictures can be read; "
            "give --data with other pictures"
        )
    calibration = None
    if quantize == "int8":
        mixed = in_turn(training_pictures(trained, calibration_data))
        readable = (path for path, _ in mixed if _is_readable(path, geometry))
        calibration = list(islice(readable, calibration_pictures))
        if not calibration:
            raise RunError(
                f"{calibration_data or trained.folder}: none of its training pictures can be read; "
                "give --calibration-data with other pictures"
            )
    graph = None
    if deployed is None:
        progress.note(f"converting {base.row.name}")
        graph = base.graph_file().read_bytes()
    head = trained.head()
    measured = measure_reliability(
        trained, base, head, reliability or ReliabilityOptions(), progress
    )
    write = (
        partial(export_head, deployed=deployed)
        if head_only
        else partial(
            export_bundle,
            single_graph=single_graph,
            quantize=quantize,
            calibration_files=calibration,
            max_accuracy_drop=max_accuracy_drop,
        )
    )
    known = set(by_class) <= set(trained.labels)
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
            truth=[trained.labels.index(label) for _, label in chosen] if known else None,
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


def _pictures_by_class(run: Run, data: Path | None) -> dict[str, list[Path]]:
    by_class: dict[str, list[Path]] = {}
    if data is not None:
        dataset = read_validation(data)
        for path, label in zip(dataset.paths, dataset.labels, strict=True):
            by_class.setdefault(dataset.classes[label], []).append(path)
        return by_class
    for row in run.validation():
        if row.path.is_file():
            by_class.setdefault(row.label, []).append(row.path)
    if not by_class:
        raise RunError(
            f"{run.folder}: none of its validation pictures is where it was; "
            "give --data with other pictures"
        )
    return by_class


def in_turn(by_class: Mapping[str, Sequence[Path]]) -> Iterator[tuple[Path, str]]:
    """Yield the pictures with their labels, taking one of each class in turn."""
    labelled = ([(path, label) for path in paths] for label, paths in by_class.items())
    turns = chain.from_iterable(zip_longest(*labelled))
    return (each for each in turns if each is not None)


def _is_readable(path: Path, geometry: Geometry) -> bool:
    try:
        read_image(path, geometry=geometry)
    except ImageError as error:
        log.warning("not compared: %s", error)
        return False
    return True
