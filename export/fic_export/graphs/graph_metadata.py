"""What a graph says of itself in its `metadata_props`, under names that other tools read, too.

Two conventions have readers: the keys that Ultralytics writes and its loader reads (`names`,
`imgsz`, `task`), values as Python literals; and the `Image.` keys of ONNX's own MetadataProps.md.
Both are in `docs/bundle-format.md`, with what was left out and why.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from fic_runtime.preprocessing import Preprocessing


def of_pictures(preprocessing: Preprocessing) -> dict[str, str]:
    """Return what a graph says whose input is a picture."""
    geometry = preprocessing.geometry
    return {
        "preprocessing": _json(preprocessing.to_dict()),
        "imgsz": repr([geometry.height, geometry.width]),
        # Of the input, whatever order the pixels are brought into behind it.
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }


def of_answers(labels: Sequence[str]) -> dict[str, str]:
    """Return what a graph says whose output is probabilities."""
    return {
        "labels": _json(list(labels)),
        "names": repr(dict(enumerate(labels))),
        "task": "classify",
    }


def add_metadata(model: onnx.ModelProto, values: Mapping[str, str]) -> onnx.ModelProto:
    """Add values to the `metadata_props` of a model, and return it."""
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)
    return model


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
