"""`fic export`: a run becomes a bundle."""

from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from fic_export.bundle.export import write_bundle
from fic_export.bundle.head_only import check_no_base_at, write_head
from fic_export.options import BundleOptions, KerasClassifier, filled
from fic_export.signing import check_signing
from fic_export.triton import check_triton, export_triton
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.bundle.places import check_bundle_place
from fic_runtime.heads.statistics import ClassStatistics
from fic_runtime.images.picture_files import find_pictures

from ..bases.keras_setup import keras_settings
from ..bases.opening import AnyBase
from ..data import Source
from ..errors import DataError, RunError
from ..options import ExportOptions, StrPath
from ..progress import Progress, shown
from ..runs import Run, as_run
from .cached_bottlenecks import cached_bottlenecks
from .fits import Reliability, measure_reliability, teaching_of
from .pictures import calibration_files, comparison_pictures
from .whereabouts import check_apart_from_pictures, moved_source

# Fields of `ExportOptions` by the names that callers once gave them.
_FORMER_NAMES = {
    "calibration_pictures": "max_calibration_pictures",
    "pictures": "max_pictures",
}


@keras_settings()
def export_run(
    run: StrPath | Run,
    *,
    out: StrPath,
    options: ExportOptions | None = None,
    progress: Progress | bool | None = None,
    **keywords: Any,
) -> Manifest:
    """Export a run as a bundle, compared with Keras on real pictures of its data set.

    Args:
        run: folder that `fic train` wrote, or what `train` returned.
        out: the bundle's folder, or an archive ending in .zip; an earlier bundle is replaced.
        options: what is exported and what it is compared on.
        progress: hears of each step; by default bars where somebody watches, and False for none.
        **keywords: fields of `ExportOptions`, instead of `options` or in place of some of them:
            `export_run("run", out="bundle", quantize="int8")`.

    Raises:
        DataError: the pictures of `foreign` cannot be read.
        RunError: the run cannot be used, its pictures are gone, or `deployed` has another base.
        BundleError: `deployed` cannot be read.
        ConversionError, ParityError, SigningError, OutputError: see `fic_export.export_bundle`.
        TypeError: a keyword that is not a field of `ExportOptions`.
        OptionsError: two options do not go together; a ValueError.
    """
    options = filled(
        options or ExportOptions(), keywords, function="export_run", former=_FORMER_NAMES
    )
    out, progress = Path(out), shown(progress)
    trained = as_run(run, options.bottleneck_dir)
    check_apart_from_pictures(
        trained,
        [out, *filter(None, [options.triton, options.bottleneck_dir])],
        *(options.data, options.calibration_data, options.reliability.foreign),
    )
    _check_outputs(out, options)
    base = trained.frozen_base()
    if options.with_feature_map:
        base.check_explanations()
    if options.deployed is not None:
        _check_origin(_origin(base), Path(options.deployed), trained)
    classifier, chosen = _gathered(trained, base, options, progress)
    progress.start("comparing", len(chosen.pictures or ()), unit="image")
    try:
        write = write_head if options.head_only else write_bundle
        manifest = write(classifier, out, chosen)
    finally:
        progress.finish()
    if options.triton is not None:
        export_triton(
            out,
            options.triton,
            name=options.triton_name,
            with_bottleneck=options.with_bottleneck,
        )
    return manifest


def _check_outputs(out: Path, options: ExportOptions) -> None:
    """Refuse at once what cannot be written after minutes."""
    check_bundle_place(out)
    if options.head_only:
        check_no_base_at(out)
    foreign = options.reliability.foreign
    if foreign is not None:
        if not foreign.exists():
            raise DataError(f"{foreign}: no such folder; give --foreign a folder of pictures")
        find_pictures([foreign])  # which refuses a folder without any
    if options.sign is not None:
        check_signing(Path(options.sign))
    if options.triton is not None:
        check_triton(options.triton, name=options.triton_name, bundle=out)


def _origin(base: AnyBase) -> dict[str, str | None]:
    return {
        "base": base.fingerprint.base,
        "weights": base.fingerprint.weights,
        "tensor": base.fingerprint.tensor,
        "pooling": base.fingerprint.pooling,
    }


def _check_origin(origin: Mapping[str, str | None], deployed: Path, run: Run) -> None:
    """Refuse at once what the comparison would find to differ, and say why."""
    theirs = open_bundle(deployed).manifest.origin
    for name, ours in origin.items():
        if theirs.get(name, ours) != ours:
            raise RunError(
                f"{run.folder}: was trained on a base with the {name} {ours}, {deployed} has one "
                f"with {theirs[name]}; give --base a bundle of the same base, or train on that one"
            )


def _gathered(
    run: Run, base: AnyBase, options: ExportOptions, progress: Progress
) -> tuple[KerasClassifier, BundleOptions]:
    """Return what is exported, and how, from a run and its cache."""
    geometry = base.preprocessing.geometry
    moved = moved_source(run, options.data)
    chosen = comparison_pictures(run, options.data, geometry, options.max_pictures, moved, progress)
    numbers = {label: number for number, label in enumerate(run.labels)}
    labelled = all(label in numbers for _, label in chosen)
    calibration = None
    if options.quantize == "int8":
        calibration = calibration_files(
            *(run, options.calibration_data, geometry, options.max_calibration_pictures),
            *(moved, progress),
        )
    graph = None
    if options.deployed is None:
        progress.note(f"converting {base.name}")
        graph = base.graph_file()
    classifier = KerasClassifier(
        base=base.reference, head=run.head(), labels=run.labels, preprocessing=base.preprocessing
    )
    measured, teaching = _fitted(run, base, classifier, options, progress, moved)
    # The matrix grows with the square of the classes, and devices have no use for it.
    metrics = {
        name: value
        for name, value in run.metrics["val"].items()
        if name not in ("confusion_matrix", "confusions")
    }
    return classifier, BundleOptions(
        pictures=[path for path, _ in chosen],
        targets=[numbers[label] for _, label in chosen] if labelled else None,
        bounds=options.bounds,
        progress=progress.advance,
        base_graph=graph,
        deployed=options.deployed,
        quantize=options.quantize,
        quantize_for=options.quantize_for,
        calibration_files=calibration,
        max_accuracy_drop=options.max_accuracy_drop,
        calibration=measured.calibration,
        ood_score=measured.ood_score,
        teaching=teaching,
        with_feature_map=options.with_feature_map,
        single_graph=options.single_graph,
        with_bottleneck=options.with_bottleneck,
        float_input=options.float_input,
        sign=options.sign,
        origin={**_origin(base), **base.source},
        metrics=metrics,
    )


def _fitted(
    run: Run,
    base: AnyBase,
    classifier: KerasClassifier,
    options: ExportOptions,
    progress: Progress,
    moved: Source | None,
) -> tuple[Reliability, ClassStatistics | None]:
    """Return all that is fitted on the cached bottlenecks, which are looked for once."""
    reliability = options.reliability
    if not (reliability.calibrate or reliability.known or options.teachable):
        return Reliability(), None
    found = cached_bottlenecks(run, progress, moved)
    with nullcontext() if isinstance(found, str) else closing(found):
        measured = measure_reliability(found, base, classifier.head, reliability, progress)
        return measured, teaching_of(run, found) if options.teachable else None
