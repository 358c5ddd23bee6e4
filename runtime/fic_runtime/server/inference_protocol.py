"""The Open Inference Protocol, version 2, with the binary tensors of NVIDIA's clients.

A model takes either `file`, image files as BYTES of shape [n] (base64 where they stand in JSON), or
`pixels`, RGB as UINT8 of shape [n, height, width, 3] and of any size; what it answers is in
`outputs_of`. https://github.com/kserve/open-inference-protocol
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from ..bundle.manifest import Manifest
from ..predictions import Prediction
from .answers import Json, RefusalError, number
from .bodies import bad_request, check_number, from_base64, read_json
from .limits import Limits
from .workers import Picture

VERSION = "1"
EXTENSIONS = ("binary_tensor_data", "classification")
LENGTH_HEADER = "Inference-Header-Content-Length"
PLATFORM = "fic_onnx"

Array = npt.NDArray[Any]  # float32, float64, int64, bool, or str


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What a client asks for.

    Attributes:
        id: of the request, to be sent back.
        pictures: to classify.
        outputs: the names that are wanted, each with its parameters; all where there are none.
        binary: whether outputs are binary unless they say otherwise.
    """

    id: str | None
    pictures: list[Picture]
    outputs: dict[str, Mapping[str, Any]]
    binary: bool


def metadata(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return what a client may ask about a model."""
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "index", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(manifest.labels)]},
    ]
    if manifest.known is not None:
        outputs += [
            {"name": "known", "datatype": "BOOL", "shape": [-1]},
            {"name": "ood_score", "datatype": "FP64", "shape": [-1]},
        ]
    return {
        "name": name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [
            {"name": "file", "datatype": "BYTES", "shape": [-1], "optional": True},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3], "optional": True},
        ],
        "outputs": outputs,
        "labels": list(manifest.labels),
    }


def read_inference(body: bytes, header_length: str | None, limits: Limits) -> Inference:
    """Read the body of an inference request.

    Args:
        body: JSON; after `header_length` bytes of it the binary tensors.
        header_length: the value of `LENGTH_HEADER`, None if it is not there.
        limits: of pictures and their pixels.

    Raises:
        RefusalError: it is not one, or has too many pictures.
    """
    end = len(body)
    if header_length is not None:
        if not (header_length.isdecimal() and len(header_length) < 20):
            raise bad_request(f"{LENGTH_HEADER} is not a number of bytes")
        end = int(header_length)
        if not 0 < end <= len(body):
            raise bad_request(f"{LENGTH_HEADER} is {end} for a body of {len(body)} bytes")
    values = read_json(body[:end])
    inputs, parameters = values.get("inputs"), _mapping(values, "parameters")
    id = values.get("id")
    if id is not None and not isinstance(id, str):
        raise bad_request("id is a text")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise bad_request('inputs is a list of one tensor, either "file" or "pixels"')
    return Inference(
        id=id,
        pictures=_pictures(inputs[0], memoryview(body)[end:], limits),
        outputs=_wanted(values.get("outputs", [])),
        binary=_flag(parameters, "binary_data_output", False),
    )


def inference_response(
    name: str, inference: Inference, predictions: Sequence[Prediction]
) -> Response:
    """Return the outputs that are wanted, as JSON or binary.

    Raises:
        RefusalError: the model has no such output.
    """
    there = outputs_of(predictions)
    outputs, tail = [], []
    for output, parameters in (inference.outputs or {key: {} for key in there}).items():
        if output not in there:
            raise bad_request(f"{name} has no output {output!r}; it has {', '.join(there)}")
        array = there[output]
        if count := parameters.get("classification"):
            # Not the model's labels of now: its head may have been swapped meanwhile.
            array = _classified(output, array, count, predictions[0].labels)
        value: dict[str, Any] = {
            "name": output,
            "datatype": _datatype(array),
            "shape": list(array.shape),
        }
        if _flag(parameters, "binary_data", inference.binary):
            data = _to_bytes(array)
            tail.append(data)
            value["parameters"] = {"binary_data_size": len(data)}
        else:
            value["data"] = [_json_value(item) for item in array.ravel().tolist()]
        outputs.append(value)
    answer = {"model_name": name, "model_version": VERSION, "outputs": outputs}
    if inference.id is not None:
        answer["id"] = inference.id
    header = Json(answer)
    if not tail:
        return header
    text = bytes(header.body)
    return Response(
        b"".join([text, *tail]),
        media_type="application/octet-stream",
        headers={LENGTH_HEADER: str(len(text))},
    )


def outputs_of(predictions: Sequence[Prediction]) -> dict[str, Array]:
    """Return the outputs for n pictures: label and index (n,), probabilities (n, labels).

    With `known` and `ood_score`, (n,), where the bundle tells unknown pictures.
    """
    outputs: dict[str, Array] = {
        "label": np.array([found.label for found in predictions], dtype=object),
        "index": np.array([found.index for found in predictions], np.int64),
        "probabilities": np.stack([found.probabilities for found in predictions]),
    }
    if all(found.known is not None for found in predictions):
        outputs["known"] = np.array([found.known for found in predictions], np.bool_)
        outputs["ood_score"] = np.array([found.ood_score for found in predictions], np.float64)
    return outputs


def _pictures(tensor: Mapping[str, Any], tail: memoryview, limits: Limits) -> list[Picture]:
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if (name, datatype) not in (("file", "BYTES"), ("pixels", "UINT8")):
        raise bad_request(
            'the input is "file" of datatype BYTES or "pixels" of datatype UINT8; '
            f"received {_short(name)} of {_short(datatype)}"
        )
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise bad_request(f"the shape of {name} is a list of sizes")
    size = _mapping(tensor, "parameters").get("binary_data_size")
    if size is not None and (type(size) is not int or size != len(tail)):
        raise bad_request(f"binary_data_size is {_short(size)} for {len(tail)} bytes of data")
    if size is None and len(tail):
        raise bad_request(f"{len(tail)} bytes follow the JSON, and {name} does not claim them")
    if size is None and not isinstance(tensor.get("data"), list):
        raise bad_request(f"{name} has neither a list as data nor binary_data_size")
    if name == "file":
        return _files(shape, tensor.get("data"), tail, limits)
    return _pixels(shape, tensor.get("data") if size is None else tail, limits)


def _files(shape: list[int], data: Any, tail: memoryview, limits: Limits) -> list[Picture]:
    # A model of Triton that takes batches has a second axis of length 1.
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise bad_request(f"the shape of file is [n]; received {_short(shape)}")
    check_number(shape[0], limits)
    if data is not None:
        while len(data) == 1 and isinstance(data[0], list):
            data = data[0]
        check_number(len(data), limits)
        flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in data]
        files = [from_base64(text, f"picture {n}") for n, text in enumerate(flat)]
    else:
        files = []
        while len(tail) and len(files) <= shape[0]:
            if len(tail) < 4 or len(tail) < 4 + (size := struct.unpack_from("<I", tail)[0]):
                raise bad_request("the binary data of file ends within a picture")
            files.append(Picture(bytes(tail[4 : 4 + size]), f"picture {len(files)}"))
            tail = tail[4 + size :]
    if len(files) != shape[0]:
        raise bad_request(f"{len(files)} pictures come for the shape {_short(shape)}")
    return files


def _pixels(shape: list[int], data: Any, limits: Limits) -> list[Picture]:
    if len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise bad_request(f"the shape of pixels is [n, height, width, 3]; received {_short(shape)}")
    check_number(shape[0], limits)
    if shape[1] * shape[2] > limits.max_pixels:
        raise RefusalError(
            400,
            f"{shape[2]}x{shape[1]} pixels are past the limit of {limits.max_pixels}; make the "
            "picture smaller",
            reason="pixels",
        )
    try:
        if isinstance(data, memoryview):
            flat = np.frombuffer(data, np.uint8)
        else:
            numbers = np.asarray(data).ravel()
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255:
                raise ValueError("not whole numbers from 0 to 255")
            flat = numbers.astype(np.uint8)
        pictures = flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise bad_request(f"the data of pixels does not fit its shape ({error})") from None
    return [Picture(pixels, f"picture {n}") for n, pixels in enumerate(pictures)]


def _wanted(outputs: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(outputs, list):
        raise bad_request("outputs is a list of tensors")
    wanted = {}
    for output in outputs:
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise bad_request("an output has a name")
        parameters = _mapping(output, "parameters")
        count = parameters.get("classification", 0)
        if type(count) is not int or count < 0:
            raise bad_request("classification is a number of labels")
        _flag(parameters, "binary_data", False)
        wanted[output["name"]] = parameters
    return wanted


def _classified(output: str, array: Array, count: int, labels: Sequence[str]) -> Array:
    """Return the best classes as `value:index:label`, texts (n, count): Triton's classification."""
    if output != "probabilities":
        raise bad_request("only probabilities can be asked for by classification")
    best = np.argsort(-array, axis=1, kind="stable")[:, :count]
    texts = [
        [f"{row[index]:f}:{index}:{labels[index]}" for index in order]
        for row, order in zip(array, best.tolist(), strict=True)
    ]
    return np.array(texts, dtype=object)


def _datatype(array: Array) -> str:
    names = {"f4": "FP32", "f8": "FP64", "i8": "INT64", "b1": "BOOL", "O8": "BYTES"}
    return names[f"{array.dtype.kind}{array.dtype.itemsize}"]


def _to_bytes(array: Array) -> bytes:
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [text.encode() for text in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _json_value(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise bad_request(f"{key} is an object")
    return found


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise bad_request(f"{key} is true or false")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
