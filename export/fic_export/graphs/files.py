"""ONNX graphs on disk: weights past 2 GB beside them, and what they say of themselves.

Two conventions for `metadata_props` have readers: the keys that Ultralytics writes and its loader
reads (`names`, `imgsz`, `task`), values as Python literals; and the `Image.` keys of ONNX's own
MetadataProps.md. Both are in `docs/reference/bundle-format.md`, with what was left out and why.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import version_converter

from fic_runtime.preprocessing import Preprocessing

from ..errors import ConversionError, one_line

# Of the standard operators. Every ONNX Runtime since 1.12 runs it, and no operator that bases use
# got better above it.
OPSET = 17
# Of weights. A message of protobuf ends at 2 GiB; the rest of a graph has ample room above this.
LARGEST = 1_900_000_000
# Smaller constants, such as shapes, stay inside: a graph without them cannot be looked at.
_SMALLEST_OUTSIDE = 1024


def is_large(model: onnx.ModelProto) -> bool:
    """Tell whether a model's weights must lie in a file of their own."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST


def weights_file(graph: str) -> str:
    """Return the name of the file beside a graph's that holds its weights, if it is large."""
    return f"{graph}.data"


def check(model: onnx.ModelProto) -> None:
    """Check a model in full, unless it is large: then `write_graph` does.

    Raises:
        ConversionError: it is not valid ONNX.
    """
    if not is_large(model):
        _check(model, model.graph.name)


def write_graph(
    graph: bytes | Path | onnx.ModelProto,
    file: Path,
    metadata: Mapping[str, str],
    *,
    checked: bool = True,
) -> None:
    """Write a graph; the weights of a large one go to `weights_file` beside it.

    A large model that was given is emptied of its weights.

    Args:
        graph: a model, its bytes, or a file that this function wrote.
        file: where it goes.
        metadata: what it says of itself.
        checked: check a large model: others were checked before.

    Raises:
        ConversionError: a large one is not valid ONNX.
    """
    if isinstance(graph, Path):
        beside = graph.with_name(weights_file(graph.name))
        if beside.exists():
            # The name by which the graph knows it.
            shutil.copyfile(beside, file.with_name(beside.name))
        graph = graph.read_bytes()
    if isinstance(graph, bytes):
        # Messages of protobuf merge when their bytes are joined: the weights are not parsed again.
        file.write_bytes(graph + _serialised(add_metadata(onnx.ModelProto(), metadata)))
        return
    add_metadata(graph, metadata)
    if not is_large(graph):
        file.write_bytes(_serialised(graph))
        return
    onnx.save_model(
        graph,
        file,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights_file(file.name),
        size_threshold=_SMALLEST_OUTSIDE,
    )
    if checked:
        _check(file, file.name)


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


def at_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return the same graph in a newer version of the standard operators.

    Raises:
        ConversionError: one of its operators has no newer form that is the same.
    """
    if all(each.version >= version for each in model.opset_import if not each.domain):
        return model
    try:
        newer = version_converter.convert_version(model, version)
    except Exception as error:  # of C++, with no class of its own
        raise ConversionError(
            f"the graph cannot be brought to version {version} of ONNX's operators "
            f"({one_line(error)}); report the base"
        ) from error
    newest = onnx.helper.find_min_ir_version_for(newer.opset_import)
    newer.ir_version = max(newer.ir_version, newest)
    return newer


def _check(model: onnx.ModelProto | Path, name: str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the converted {name} is not valid ONNX: {one_line(error)}"
        ) from error


def _serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
