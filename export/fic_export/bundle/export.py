"""Write a bundle: two graphs, their manifest, and the proof that they do what Keras does."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fic_runtime.bundle import (
    BASE_FILE,
    CARD_FILE,
    CLASS_WEIGHTS_FILE,
    GOLDEN_FILE,
    HEAD_FILE,
    LABELS_FILE,
    TEACHING_FILE,
    Bundle,
    open_bundle,
)
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.bundle.places import appearing_bundle
from fic_runtime.preprocessing import Geometry, Preprocessing

from ..conversion import convert_base, convert_head
from ..drawn_pictures import drawn_files
from ..graphs.files import of_answers, of_pictures, write_graph
from ..graphs.surgery import fold_temperature
from ..options import BundleOptions, KerasClassifier, Scheme, filled
from ..quantization import quantize_base
from ..quantization.gate import Limits
from ..signing import check_signing, sign_folder
from ..versions import made_with
from .compatibility import base_spec, check_fit, check_pictures, head_spec
from .draft import Draft, check_fits, copy_base
from .explanations import (
    check_pooling,
    expose_feature_map,
    linear_head,
    proved,
    write_linear_head,
)
from .golden import write_golden
from .model_card import model_card
from .parity import compare, threshold_on_graphs
from .single_graph import SingleGraph, compare_single_graph, write_single_graph

if TYPE_CHECKING:
    import keras

# Fields of `BundleOptions` by the names that callers once gave them.
FORMER_NAMES = {"known": "ood_score", "truth": "targets"}


def export_bundle(
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
    """Export any Keras base and head whose shapes fit, and return the manifest that was written.

    `out` appears whole or not at all; an earlier bundle there is replaced. If its name ends in .zip
    it is one archive, and otherwise a folder.

    Args:
        base: from float32 pixels in its own scale, (n, height, width, 3), to bottleneck.
        head: from bottleneck to probabilities, (n, labels).
        labels: class names in the order of the head's outputs, each one line of text.
        preprocessing: how a picture becomes the base's input.
        pictures: real image files on which the bundle is compared with the Keras models; drawn
            ones by default.
        targets: for each of `pictures` the index of its label.
        out: the bundle's folder or archive.
        **options: the other fields of `fic_export.options.BundleOptions`, such as `quantize=`,
            `single_graph=`, `sign=` or `bounds=`.

    Raises:
        ConversionError: a model holds something that has no ONNX form, or the bundle cannot
            explain its answers.
        ParityError: the bundle is not within the bounds; nothing is written.
        ImageError: one of `pictures` cannot be read.
        BundleError: `deployed` cannot be used, or its base is of another kind.
        SigningError: `sign` holds no usable key, or the library for signatures is missing.
        OutputError: `out` holds something that is not a bundle, or cannot be written.
        TypeError: an option that there is not.
        ValueError: the models, labels and preprocessing do not fit together.
    """
    classifier = KerasClassifier(
        base=base, head=head, labels=tuple(labels), preprocessing=preprocessing
    )
    given = {"pictures": pictures, "targets": targets, **options}
    chosen = filled(BundleOptions(), given, function="export_bundle", former=FORMER_NAMES)
    return write_bundle(classifier, Path(out), chosen)


def write_bundle(
    classifier: KerasClassifier, out: Path, options: BundleOptions, *, head_only: bool = False
) -> Manifest:
    """Check, convert, write, prove and finish a bundle.

    Args:
        classifier: what is exported.
        out: the bundle's folder or archive; it appears whole or not at all.
        options: how it is made and checked, and what else it holds.
        head_only: leave the base out once the bundle has been proved with it.

    Raises:
        OutputError: `out` holds something else, or cannot be written.
        BundleError, ConversionError, ImageError, ParityError, SigningError, ValueError: see
            `export_bundle`.
    """
    deployed = _opened(options.deployed)
    check(classifier, options, deployed)
    # Before the conversion, which may take minutes: a folder that cannot be made fails at once.
    with (
        appearing_bundle(out) as folder,
        _files(options.pictures, classifier.preprocessing.geometry) as pictures,
    ):
        draft = Draft(folder, _first_manifest(classifier, options))
        convert(draft, classifier, options, deployed)
        write(draft, classifier, options)
        if not head_only:
            check_fits(folder, out)
        prove(draft, classifier, options, pictures)
        finish(draft, options, pictures, head_only=head_only)
        check_fits(folder, out)
        return draft.manifest


def check(classifier: KerasClassifier, options: BundleOptions, deployed: Bundle | None) -> None:
    """Refuse at once what would fail after minutes.

    Raises:
        ConversionError: the bundle cannot explain its answers.
        OutputError: a label cannot stand in a line of text.
        SigningError: the bundle cannot be signed.
        ValueError: the parts of the classifier, or the pictures and targets, do not fit.
    """
    check_fit(classifier)
    check_pictures(options.pictures, options.targets)
    if options.sign is not None:
        check_signing(Path(options.sign))
    if options.with_feature_map:
        check_pooling(classifier.base, deployed)
        linear_head(classifier.head, options.temperature)


def convert(
    draft: Draft, classifier: KerasClassifier, options: BundleOptions, deployed: Bundle | None
) -> None:
    """Write the two graphs; the base of a deployed bundle is copied.

    Raises:
        BundleError: the deployed base is of another kind.
        ConversionError: a model holds something that has no ONNX form.
    """
    head = convert_head(classifier.head)
    fold_temperature(head, options.temperature)
    write_graph(head, draft.folder / HEAD_FILE, of_answers(classifier.labels))
    if deployed is not None:
        copy_base(deployed, draft)
        return
    base = options.base_graph or convert_base(classifier.base, classifier.preprocessing)
    if options.with_feature_map:
        base = base.read_bytes() if isinstance(base, Path) else base
        base, feature_map = expose_feature_map(base, classifier.base, draft.manifest.base.output)
        draft.note(feature_map=feature_map)
    write_graph(base, draft.folder / BASE_FILE, of_pictures(classifier.preprocessing))


def write(draft: Draft, classifier: KerasClassifier, options: BundleOptions) -> None:
    """Write what stands beside the graphs, and the manifest as far as it is known."""
    folder = draft.folder
    lines = "".join(f"{label}\n" for label in classifier.labels)
    (folder / LABELS_FILE).write_text(lines, encoding="utf-8")
    if options.with_feature_map:
        weights = linear_head(classifier.head, options.temperature)
        write_linear_head(folder / CLASS_WEIGHTS_FILE, weights)
    if options.ood_score is not None:
        options.ood_score.write(folder)
    if options.teaching is not None:
        np.savez(folder / TEACHING_FILE, **options.teaching.arrays())  # type: ignore[arg-type] # names are keys
    draft.write_manifest()


def prove(
    draft: Draft,
    classifier: KerasClassifier,
    options: BundleOptions,
    pictures: Sequence[Path],
) -> None:
    """Compare the bundle with Keras, and then with itself on a base of fewer bits.

    Raises:
        ParityError: a bound is not kept.
        ImageError: one of the pictures cannot be read.
    """
    parity = compare(
        draft.folder,
        classifier,
        pictures,
        targets=options.targets,
        temperature=options.temperature,
        progress=options.progress,
    )
    parity = replace(parity, source="drawn" if options.pictures is None else "files")
    if draft.manifest.quantization:
        parity.check_accuracy(options.max_accuracy_drop, options.bounds.min_accuracy)
    else:
        parity.check(options.bounds)
    draft.note(parity=asdict(parity))
    if options.with_feature_map:
        draft.note(feature_map=proved(open_bundle(draft.folder), pictures))
    if options.quantize is not None:
        _quantize(draft, options.quantize, options, pictures)
    fitted = options.ood_score
    if fitted is not None and draft.manifest.quantization and options.pictures is not None:
        draft.note(known=threshold_on_graphs(draft.folder, fitted.known, pictures))


def finish(
    draft: Draft, options: BundleOptions, pictures: Sequence[Path], *, head_only: bool
) -> None:
    """Write what tells of the proved graphs: fused ones, recorded results, card and signature.

    Raises:
        ConversionError, ParityError: the two graphs cannot become one, or it differs.
    """
    folder = draft.folder
    if options.single_graph:
        form = SingleGraph(options.with_bottleneck, options.float_input)
        write_single_graph(folder, draft.manifest, form=form)
        draft.note(single_graph=compare_single_graph(folder, draft.manifest, pictures, form=form))
    write_golden(folder / GOLDEN_FILE, folder, with_pictures=not head_only)
    if head_only:
        draft.drop_base()
    card = model_card(draft.manifest).encode("utf-8", "backslashreplace")
    (folder / CARD_FILE).write_bytes(card)
    draft.write_manifest()
    if options.sign is not None:
        sign_folder(folder, Path(options.sign))


def _opened(deployed: Any) -> Bundle | None:
    # A path; callers of `export_bundle` once gave an open bundle, and may go on doing so.
    return deployed if deployed is None or isinstance(deployed, Bundle) else open_bundle(deployed)


def _quantize(
    draft: Draft, scheme: Scheme, options: BundleOptions, pictures: Sequence[Path]
) -> None:
    quantization = quantize_base(
        draft.folder,
        scheme,
        draft.manifest.preprocessing,
        pictures,
        targets=options.targets,
        calibration=_as_paths(options.calibration_files or pictures),
        limits=Limits(
            max_accuracy_drop=options.max_accuracy_drop,
            min_accuracy=options.bounds.min_accuracy,
            purpose=options.quantize_for,
        ),
    )
    draft.note(quantization=asdict(quantization))
    draft.write_manifest()


@contextmanager
def _files(
    pictures: Sequence[str | os.PathLike[str]] | None, geometry: Geometry
) -> Iterator[list[Path]]:
    if pictures is not None:
        yield _as_paths(pictures)
        return
    with drawn_files(geometry) as drawn:
        yield drawn


def _as_paths(files: Sequence[str | os.PathLike[str]]) -> list[Path]:
    # A Path as it is: it may be of a class of its own, which reads from elsewhere.
    return [file if isinstance(file, Path) else Path(file) for file in files]


def _first_manifest(classifier: KerasClassifier, options: BundleOptions) -> Manifest:
    return Manifest(
        labels=classifier.labels,
        preprocessing=classifier.preprocessing,
        base=base_spec(classifier.base),
        head=head_spec(classifier.head),
        files={},
        origin=dict(options.origin),
        metrics=dict(options.metrics),
        calibration={} if options.calibration is None else asdict(options.calibration),
        known=None if options.ood_score is None else options.ood_score.known,
        versions=made_with(),
    )
