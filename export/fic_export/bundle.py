"""Write a bundle: two graphs, their manifest, and the proof that they do what Keras does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fic_runtime.bundle import (
    BASE_FILE,
    CARD_FILE,
    CLASS_WEIGHTS_FILE,
    GOLDEN_FILE,
    HEAD_FILE,
    LABELS_FILE,
    Bundle,
    file_digest,
    open_bundle,
)
from fic_runtime.manifest import MANIFEST_FILE, GraphSpec, Manifest, Tensor
from fic_runtime.preprocessing import Preprocessing

from .archives import check_fits, replacing_result
from .base_copies import copy_base
from .calibration import Calibration, fold_temperature
from .class_weights import class_weights, write_class_weights
from .conversion import BOTTLENECK, IMAGE, PROBABILITIES, convert_base, convert_head
from .drawn_pictures import drawn_files
from .errors import OutputError
from .feature_map import check_pooling, expose_feature_map, proved
from .golden import write_golden
from .graph_files import write_graph
from .graph_metadata import of_answers, of_pictures
from .model_card import model_card
from .out_of_distribution import FittedScore
from .parity import Bounds, compare
from .quantization import MAX_ACCURACY_DROP, Scheme, quantize_base
from .signing import check_signing, sign_folder
from .single_graph import compare_single_graph, write_single_graph
from .versions import made_with

if TYPE_CHECKING:
    import keras


def export_bundle(
    base: "keras.Model",
    head: "keras.Model",
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    pictures: Sequence[str | Path] | None = None,
    truth: Sequence[int] | None = None,
    out: str | Path,
    bounds: Bounds | None = None,
    base_graph: bytes | None = None,
    deployed: Bundle | None = None,
    with_feature_map: bool = False,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    known: FittedScore | None = None,
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
        truth: for each of `pictures` the index of its label, to measure the accuracy of both.
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
            `fic_export.out_of_distribution`.
        single_graph: write base and head fused in one file, `classifier.onnx`, as well.
        sign: PEM file with the private key that signs the bundle; see `fic_export.signing`.
        quantize: write the base in fewer bits, `int8` or `fp16`, if it keeps its accuracy and, for
            `int8`, gains speed; the head stays float32.
        calibration_files: pictures for the ranges of int8, best of the training; else `pictures`.
        max_accuracy_drop: how much accuracy a quantized base may lose on `pictures`; without
            `truth`, for which share of them it may name another class.
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
    _check_fit(base, head, labels, preprocessing)
    _check_pictures(pictures, truth)
    if sign is not None:
        check_signing(Path(sign))
    if with_feature_map:
        check_pooling(base, deployed)
    temperature = 1.0 if calibration is None else calibration.temperature
    weights = class_weights(head, temperature) if with_feature_map else None
    out = Path(out)
    manifest = Manifest(
        labels=tuple(labels),
        preprocessing=preprocessing,
        base=_spec(BASE_FILE, IMAGE, "uint8", base.input_shape, BOTTLENECK, base.output_shape),
        head=_spec(
            HEAD_FILE, BOTTLENECK, "float32", head.input_shape, PROBABILITIES, head.output_shape
        ),
        files={},
        origin=dict(origin or {}),
        metrics=dict(metrics or {}),
        calibration={} if calibration is None else asdict(calibration),
        known=None if known is None else known.known,
        versions=made_with(),
    )
    try:
        # Before the conversion, which may take minutes: a folder that cannot be made fails at once.
        with replacing_result(out, mark=MANIFEST_FILE) as folder:
            if deployed is not None:
                copy_base(deployed, folder, manifest)
                manifest = replace(manifest, feature_map=deployed.manifest.feature_map)
            else:
                graph = base_graph or convert_base(base, preprocessing)
                if weights is not None:
                    graph, feature_map = expose_feature_map(graph, base, manifest.base.output)
                    manifest = replace(manifest, feature_map=feature_map)
                write_graph(graph, folder / BASE_FILE, of_pictures(preprocessing))
            head_graph = convert_head(head)
            fold_temperature(head_graph, temperature)
            write_graph(head_graph, folder / HEAD_FILE, of_answers(labels))
            if weights is not None:
                write_class_weights(folder / CLASS_WEIGHTS_FILE, weights)
            if known is not None:
                known.write(folder)
            check_fits(folder, out)
            lines = "".join(f"{label}\n" for label in labels)
            (folder / LABELS_FILE).write_text(lines, encoding="utf-8")
            _write_manifest(folder, manifest)
            with _files(pictures, preprocessing) as files:
                parity = compare(
                    folder,
                    base,
                    head,
                    preprocessing,
                    files,
                    truth=truth,
                    temperature=temperature,
                    progress=progress,
                )
                parity = replace(parity, source="drawn" if pictures is None else "files")
                parity.check(bounds or Bounds())
                if weights is not None:
                    manifest = proved(open_bundle(folder), weights, files)
                if quantize is not None:
                    quantization = quantize_base(
                        folder,
                        quantize,
                        preprocessing,
                        files,
                        truth=truth,
                        calibration=[Path(each) for each in calibration_files or files],
                        max_accuracy_drop=max_accuracy_drop,
                        min_accuracy=bounds.min_accuracy if bounds else None,
                    )
                    manifest = replace(manifest, quantization=asdict(quantization))
                    _write_manifest(folder, manifest)
                if single_graph:
                    write_single_graph(folder, manifest)
                    check_fits(folder, out)
                    fused = compare_single_graph(folder, manifest, files)
                    manifest = replace(manifest, single_graph=fused)
            write_golden(folder / GOLDEN_FILE, folder)
            manifest = replace(manifest, parity=asdict(parity))
            (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
            manifest = _write_manifest(folder, manifest)
            if sign is not None:
                sign_folder(folder, Path(sign))
            return manifest
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); free space or give another "
            "folder"
        ) from error


def _check_fit(
    base: "keras.Model",
    head: "keras.Model",
    labels: Sequence[str],
    preprocessing: Preprocessing,
) -> None:
    for name, model in (("base", base), ("head", head)):
        # A Sequential without Input, or a subclass of Model, has no shapes before its first call.
        if not getattr(model, "inputs", None):
            raise ValueError(
                f"the {name}, {model.name}, does not say its input; give it a keras.Input"
            )
    geometry = preprocessing.geometry
    picture = (geometry.height, geometry.width, 3)
    if tuple(base.input_shape[1:]) != picture:
        raise ValueError(f"the base takes {base.input_shape[1:]}, preprocessing makes {picture}")
    if base.output_shape[1:] != head.input_shape[1:]:
        raise ValueError(f"the base gives {base.output_shape}, the head takes {head.input_shape}")
    if head.output_shape[1:] != (len(labels),):
        raise ValueError(f"the head gives {head.output_shape} for {len(labels)} labels")
    if len(set(labels)) != len(labels):
        raise ValueError(f"two labels are the same: {', '.join(sorted(labels))}")
    for label in labels:
        # labels.txt has a line for each; a surrogate is a byte of a file name that is no UTF-8.
        if label.splitlines() != [label] or any("\ud800" <= char <= "\udfff" for char in label):
            raise OutputError(f"the label {label!r} is not one line of text; rename the class")


def _check_pictures(pictures: Sequence[Any] | None, truth: Sequence[int] | None) -> None:
    if pictures is not None and not pictures:
        raise ValueError("pictures is empty; give image files, or None to compare on drawn ones")
    if truth is not None and len(truth) != len(pictures or ()):
        raise ValueError(f"{len(truth)} labels do not go with {len(pictures or ())} pictures")


@contextmanager
def _files(
    pictures: Sequence[str | Path] | None, preprocessing: Preprocessing
) -> Iterator[list[Path]]:
    if pictures is not None:
        yield [Path(picture) for picture in pictures]
        return
    with drawn_files(preprocessing.geometry) as drawn:
        yield drawn


def _spec(
    file: str,
    input_name: str,
    input_dtype: str,
    input_shape: Sequence[int | None],
    output_name: str,
    output_shape: Sequence[int | None],
) -> GraphSpec:
    return GraphSpec(
        file=file,
        input=Tensor(name=input_name, dtype=input_dtype, shape=(None, *input_shape[1:])),
        output=Tensor(name=output_name, dtype="float32", shape=(None, *output_shape[1:])),
    )


def _write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `manifest.json` with the digests of the files that are there by now."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    files = {name: file_digest(folder / name) for name in names}
    manifest = replace(manifest, files=files)
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
