"""The model card of a bundle in Markdown, and its reliability in lines for a terminal."""

import re
from collections.abc import Mapping
from typing import Any

from fic_runtime.bundle.manifest import Known, Manifest
from fic_runtime.errors import printable
from fic_runtime.preprocessing import Geometry

_MARKS = re.compile(r"[\\`*\[\]!|]|:(?=//)")


def model_card(manifest: Manifest) -> str:
    """Return the model card as Markdown, from the manifest alone."""
    geometry = manifest.preprocessing.geometry
    metrics, parity, origin = manifest.metrics, manifest.parity, manifest.origin
    return "\n".join(
        [
            "# Image classifier",
            "",
            f"Tells {len(manifest.labels)} classes apart: "
            f"{', '.join(map(_text, manifest.labels))}.",
            "",
            "```python",
            "from fic_runtime import Classifier",
            "",
            f'print(Classifier({_arguments(manifest)}).predict("photo.jpg"))',
            "```",
            "",
            *_needs(manifest),
            "From another language: `base.onnx` takes `image`, uint8 RGB "
            f"[N, {geometry.height}, {geometry.width}, 3], and gives `bottleneck`; `head.onnx` "
            "takes `bottleneck` and gives `probabilities` in the order of `labels.txt`. "
            f"Pictures are resized by `{geometry.resize}`; the pixel arithmetic is in the graph.",
            "",
            *_single_graph(manifest),
            "| | |",
            "|---|---|",
            *_rows(origin, metrics, parity),
            *_quantization_rows(manifest.quantization),
            "",
            *_per_class(metrics),
            "## Limits",
            "",
            *_reliability(manifest),
            "It always answers with one of its classes, also for a picture that shows none of "
            "them. The figures above hold for pictures like those of the validation set.",
            "",
        ]
    )


def reliability_lines(manifest: Manifest) -> list[str]:
    """Return a line each for calibration and out-of-distribution score, as far as there are."""
    lines = []
    if manifest.calibration:
        lines.append(_calibration_line(manifest.calibration))
    if manifest.known is not None:
        lines.append(_known_line(manifest.known))
    return lines


def _outputs(manifest: Manifest) -> str:
    names = ["probabilities", *manifest.single_graph.get("further_outputs", ())]
    return " and ".join(f"`{name}`" for name in names)


def _single_graph(manifest: Manifest) -> list[str]:
    if not manifest.single_graph:
        return []
    dtype = manifest.single_graph["input"]["dtype"]
    same = dtype == manifest.base.input.dtype
    image = "the same `image`" if same else f"`image` as {dtype}, 0 to 255,"
    given = "picture[None]" if dtype == "uint8" else f'picture[None].astype("{dtype}")'
    return [
        f"In one step: `{manifest.single_graph['file']}` takes {image} and gives "
        f"{_outputs(manifest)}. It is the two graphs fused, and nothing else is needed to run it:",
        "",
        "```python",
        "import cv2",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("this-folder/{manifest.single_graph["file"]}")',
        'picture = cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)',
        *_resizing(manifest.preprocessing.geometry),
        f'(probabilities,) = session.run(["probabilities"], {{"image": {given}}})',
        "```",
        "",
    ]


def _resizing(geometry: Geometry) -> list[str]:
    """Return lines of Python that do with `picture` what `fic_runtime.images.resizing` does."""
    high, wide = geometry.height, geometry.width
    rows, columns = str(high), str(wide)
    before, after = [], []
    if geometry.resize == "crop":
        before = [
            f"scale = {geometry.crop_fraction} * min(height / {high}, width / {wide})",
            f"rows = min(max(round(scale * {high}), 1), height)",
            f"columns = min(max(round(scale * {wide}), 1), width)",
            "top, left = (height - rows) // 2, (width - columns) // 2",
            "picture = picture[top : top + rows, left : left + columns]",
            "height, width = rows, columns",
        ]
    elif geometry.resize == "pad":
        rows, columns = "rows", "columns"
        before = [
            f"scale = min({high} / height, {wide} / width)",
            f"rows = min(max(round(scale * height), 1), {high})",
            f"columns = min(max(round(scale * width), 1), {wide})",
        ]
        after = [
            f"top, left = ({high} - rows) // 2, ({wide} - columns) // 2",
            f"bottom, right = {high} - rows - top, {wide} - columns - left",
            "picture = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT)",
        ]
    return [
        "height, width = picture.shape[:2]",
        *before,
        f"smaller = min(width, {columns}), min(height, {rows})",
        "picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)",
        f"picture = cv2.resize(picture, ({columns}, {rows}), interpolation=cv2.INTER_LINEAR)",
        *after,
    ]


def _arguments(manifest: Manifest) -> str:
    return '"its-base", head="this-folder"' if manifest.head_only else '"this-folder"'


def _needs(manifest: Manifest) -> list[str]:
    if not manifest.head_only:
        return []
    return [
        "This is a head only. It needs a bundle with the base that it was made for, whose "
        f"{_text(manifest.base.file)} has the SHA-256 "
        f"{_text(manifest.files[manifest.base.file])}.",
        "",
    ]


def _reliability(manifest: Manifest) -> list[str]:
    lines = reliability_lines(manifest)
    if manifest.known is not None:
        lines.append("`prediction.known` of fic-runtime is false past that threshold.")
    return [part for line in lines for part in (f"{line[0].upper()}{line[1:]}", "")]


def _rows(*groups: Any) -> list[str]:
    return [
        f"| {_text(name.replace('_', ' '))} | {_text(_figure(value))} |"
        for group in groups
        for name, value in group.items()
        if not isinstance(value, dict | list)
    ]


def _quantization_rows(found: Any) -> list[str]:
    return [row.replace("| ", "| quantization: ", 1) for row in _rows(found)]


def _per_class(metrics: Any) -> list[str]:
    classes = metrics.get("per_class")
    if not classes:
        return []
    lines = ["## Classes", "", "| class | images | precision | recall |", "|---|---|---|---|"]
    for label, figures in classes.items():
        values = (figures[name] for name in ("images", "precision", "recall"))
        lines.append(f"| {_text(label)} | {' | '.join(_text(_figure(each)) for each in values)} |")
    return [*lines, ""]


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    """Return a text of others as it may stand in Markdown: no HTML, link, picture or column."""
    # An entity where HTML might begin: what shows Markdown does not agree on `\\<`.
    entities = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\g<0>", entities)


def _calibration_line(calibration: Mapping[str, Any]) -> str:
    line = f"temperature {calibration['temperature']:.3g}: {calibration['reason']}"
    if calibration["ece_after"] is None:
        return line
    return (
        f"{line}; {calibration['fitted']:.3g} makes the calibration error "
        f"{calibration['ece_after']:.3f} instead of {calibration['ece_before']:.3f}"
    )


def _known_line(known: Known) -> str:
    figures = known.figures
    areas = figures["auroc"][known.method]
    return (
        f"known pictures by {known.method.replace('_', ' ')}: AUROC {areas['held_out']:.3f} on "
        f"classes left out, {areas['foreign']:.3f} on {figures['foreign_pictures']} foreign "
        f"pictures, of which {figures['foreign_rejected']:.0%} are unknown at a false rejection of "
        f"{known.false_rejection:g}"
    )
