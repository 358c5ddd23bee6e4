"""Write a bundle: two graphs, their manifest, and the proof that they do what Keras does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    MANIFEST_FILE,
    TEACHING_FILE,
    Bundle,
    open_bundle,
)
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.heads.statistics import ClassStatistics
from fic_runtime.preprocessing import Preprocessing
from fic_runtime.results import replacing_result

from ..conversion import convert_base, convert_head
from ..drawn_pictures import drawn_files
from ..errors import OutputError
from ..fits.out_of_distribution import FittedScore
from ..fits.temperature import Calibration
from ..graphs.files import of_answers, of_pictures, write_graph
from ..graphs.surgery import fold_temperature
from ..quantization import MAX_ACCURACY_DROP, Scheme, quantize_base
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
from .parity import Bounds, compare, threshold_on_graphs
from .single_graph import compare_single_graph, write_single_graph

if TYPE_CHECKING:
    import keras


def export_bundle(
    base: "keras.Model",
    head: "keras.Model",
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    pictures: Sequence[str | Path] | None = None,
    targets: Sequence[int] | None = None,
    out: str | Path,
    bounds: Bounds | None = None,
    base_graph: bytes | None = None,
    deployed: Bundle | None = None,
    with_feature_map: bool = False,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    known: FittedScore | None = None,
    teaching: ClassStatistics | None = None,
    single_graph: bool = False,
    sign: str | Path | None = None,
    quantize: Scheme | None = None,
    calibration_files: Sequence[str | Path] | None = None,
    max_accuracy_drop: float = MAX_ACCURACY_DROP,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Export any Keras base and head whose shapes fit, and return the manifest that was written.

    `out` appears whole or not at all; an earlier bundle there is replaced. If its name ends in .zip
    it is one archive, and otherwise a folder.

    Args:
        base: from float32 pixels in its own scale, (n, height, width, 3), to bottleneck.
        head: from bottleneck to probabilities, (n, labels).
        labels: the class names in the order of the head's outputs, each one line of text.
        preprocessing: what turns a picture into the base's input.
        pictures: real image files on which the bundle is compared with the Keras models. Without
            them it is compared on drawn pictures, and the manifest says so; give some that look
            like those to come wherever you can.
        targets: for each of `pictures` the index of its label, to measure the accuracy of both.
        out: the bundle's folder or archive.
        bounds: how far the bundle may be from the Keras models.
        base_graph: the ONNX graph of `base` if it was converted before.
        deployed: a bundle whose base is taken as it is, to the byte, instead of a converted one.
        with_feature_map: let the bundle explain its answers: `base.onnx` has its last feature map
            as a second output, and `class_weights.npz` holds what the head makes of it.
        origin: where the base comes from, for the manifest.
        metrics: what the training measured, for the manifest.
        calibration: the temperature by which the head's graph divides its logits.
        known: what tells pictures like those of the training from others; see
            `fic_export.fits.out_of_distribution`.
        teaching: what lets a device learn more classes; see `fic_export.fits.teaching`.
        single_graph: write base and head fused in one file, `classifier.onnx`, as well.
        sign: PEM file with the private key that signs the bundle; see `fic_export.signing`.
        quantize: write the base in fewer bits, `int8` or `fp16`, if it keeps its accuracy and, for
            `int8`, gains speed; the head stays float32.
        calibration_files: pictures for the ranges of int8, best of the training; else `pictures`.
        max_accuracy_drop: how much accuracy a quantized base may lose on `pictures`; without
            `targets`, for which share of them it may name another class.
        progress: called with the number of pictures just compared.

    Raises:
        ConversionError: a model holds something that has no ONNX form, or the bundle cannot
            explain its answers.
        ParityError: the bundle is not within the bounds; nothing is written.
        ImageError: one of `pictures` cannot be read.
        SigningError: `sign` is no key, or the library for signatures is missing.
        OutputError: `out` holds something that is not a bundle, or cannot be written.
        ValueError: the models, labels and preprocessing do not fit together.
    """
    check_fit(base, head, labels, preprocessing)
    check_pictures(pictures, targets)
    if sign is not None:
        check_signing(Path(sign))
    if with_feature_map:
        check_pooling(base, deployed)
    temperature = 1.0 if calibration is None else calibration.temperature
    weights = linear_head(head, temperature) if with_feature_map else None
    out, bounds = Path(out), bounds or Bounds()
    manifest = Manifest(
        labels=tuple(labels),
        preprocessing=preprocessing,
        base=base_spec(base),
        head=head_spec(head),
        files={},
        origin=dict(origin or {}),
        metrics=dict(metrics or {}),
        calibration={} if calibration is None else asdict(calibration),
        known=None if known is None else known.known,
        versions=made_with(),
    )
    try:
        # Before the conversion, which may take minutes: a folder that cannot be made fails at once.
        with (
            replacing_result(out, mark=MANIFEST_FILE) as folder,
            _files(pictures, preprocessing) as files,
        ):
            draft = Draft(folder, manifest)
            if deployed is None:
                _write_base(draft, base, base_graph, with_feature_map=with_feature_map)
            else:
                copy_base(deployed, draft)
            _write_head(draft, head, temperature)
            if weights is not None:
                write_linear_head(folder / CLASS_WEIGHTS_FILE, weights)
            if known is not None:
                known.write(folder)
            if teaching is not None:
                np.savez(folder / TEACHING_FILE, **teaching.arrays())  # type: ignore[arg-type] # names are keys
            check_fits(folder, out)
            draft.write_manifest()
            parity = compare(
                folder,
                base,
                head,
                preprocessing,
                files,
                targets=targets,
                temperature=temperature,
                progress=progress,
            )
            parity = replace(parity, source="drawn" if pictures is None else "files")
            if draft.manifest.quantization:
                parity.check_accuracy(max_accuracy_drop, bounds.min_accuracy)
            else:
                parity.check(bounds)
            draft.note(parity=asdict(parity))
            if weights is not None:
                draft.note(feature_map=proved(open_bundle(folder), weights, files))
            if quantize is not None:
                quantization = quantize_base(
                    folder,
                    quantize,
                    preprocessing,
                    files,
                    targets=targets,
                    calibration=[Path(each) for each in calibration_files or files],
                    max_accuracy_drop=max_accuracy_drop,
                    min_accuracy=bounds.min_accuracy,
                )
                draft.note(quantization=asdict(quantization))
                draft.write_manifest()
            if known is not None and draft.manifest.quantization and pictures is not None:
                draft.note(known=threshold_on_graphs(folder, known.known, files))
            if single_graph:
                write_single_graph(folder, draft.manifest)
                check_fits(folder, out)
                draft.note(single_graph=compare_single_graph(folder, draft.manifest, files))
            write_golden(folder / GOLDEN_FILE, folder)
            (folder / CARD_FILE).write_text(model_card(draft.manifest), encoding="utf-8")
            draft.write_manifest()
            if sign is not None:
                sign_folder(folder, Path(sign))
            return draft.manifest
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); free space or give another "
            "folder"
        ) from error


def _write_base(
    draft: Draft, base: "keras.Model", graph: bytes | None, *, with_feature_map: bool
) -> None:
    preprocessing = draft.manifest.preprocessing
    converted = graph or convert_base(base, preprocessing)
    if with_feature_map:
        converted, feature_map = expose_feature_map(converted, base, draft.manifest.base.output)
        draft.note(feature_map=feature_map)
    write_graph(converted, draft.folder / BASE_FILE, of_pictures(preprocessing))


def _write_head(draft: Draft, head: "keras.Model", temperature: float) -> None:
    labels = draft.manifest.labels
    graph = convert_head(head)
    fold_temperature(graph, temperature)
    write_graph(graph, draft.folder / HEAD_FILE, of_answers(labels))
    lines = "".join(f"{label}\n" for label in labels)
    (draft.folder / LABELS_FILE).write_text(lines, encoding="utf-8")


@contextmanager
def _files(
    pictures: Sequence[str | Path] | None, preprocessing: Preprocessing
) -> Iterator[list[Path]]:
    if pictures is not None:
        yield [Path(picture) for picture in pictures]
        return
    with drawn_files(preprocessing.geometry) as drawn:
        yield drawn
