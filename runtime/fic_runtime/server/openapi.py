"""The server's own description, as an OpenAPI 3.1 document."""

from typing import Any

from .inference_protocol import LENGTH_HEADER, VERSION
from .service import Service

Schema = dict[str, Any]  # JSON

# Formats that a decoder here reads; a body of any other type is taken for a picture, too.
PICTURE_TYPES = ("image/jpeg", "image/png")
# For generators of requests, which would send any bytes and any base64 otherwise.
PICTURE_FORMAT = "picture"
BASE64_FORMAT = "picture-base64"


def document(service: Service, root: str = "") -> Schema:
    """Return the document of a server.

    Args:
        service: is described as it is: models by name, limits by number.
        root: where the application is mounted in another one.
    """
    models = list(service.models.manifests)
    paths: Schema = {
        "/predict": {"post": _predict(service)},
        "/v2": {"get": _get("What the server is", "Server")},
        "/v2/health/live": {"get": _get("Whether the process answers", "Live")},
        "/v2/health/ready": {"get": _get("Whether the self-test has passed", "Ready", 503)},
        "/v2/models/{name}": {"get": _of_model(_get("What a model takes and gives", "Model"))},
        "/v2/models/{name}/ready": {
            "get": _of_model(_get("Whether a model is ready", "ModelReady", 503))
        },
        "/v2/models/{name}/infer": {"post": _of_model(_infer())},
        "/metrics": {
            "get": {
                "summary": "Figures for Prometheus",
                "responses": {"200": _text("Figures.", "text/plain")},
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This document",
                "responses": {"200": _json("The document.", {"type": "object"})},
            }
        },
        "/docs": {
            "get": {
                "summary": "This document as a page",
                "responses": {"200": _text("The page.", "text/html")},
            }
        },
    }
    if service.updates.token is not None:
        paths["/v2/models/{name}/heads"] = {"post": _of_model(_heads())}
    for path, item in paths.items():
        if "{name}" in path:
            item["parameters"] = [_name(models)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"fic-runtime: {service.name}",
            "version": service.version,
            "description": "Classifies pictures. Errors are JSON, one sentence as `error`; 503 "
            "with `Retry-After` says that too many pictures wait.",
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(service),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _predict(service: Service) -> Schema:
    picture = {"type": "string", "format": "binary"}
    files = {
        "type": "array",
        "items": {
            "type": "string",
            "format": PICTURE_FORMAT,
            "contentMediaType": "application/octet-stream",
        },
        "minItems": 1,
        "maxItems": service.limits.max_pictures,
    }
    return {
        "summary": "Classify pictures",
        "description": "The body is a picture file (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or "
        "PNM), a form with one or several files, or JSON with base64. If one picture cannot be "
        "classified, none is, and the error names it.",
        "parameters": [
            {
                "name": "top",
                "in": "query",
                "description": "How many labels to name, best first.",
                "schema": {"type": "integer", "minimum": 1, "default": 5},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                **{kind: {"schema": picture} for kind in PICTURE_TYPES},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": files},
                        "required": ["file"],
                    },
                    "encoding": {"file": {"contentType": ", ".join(PICTURE_TYPES)}},
                },
                "application/json": {"schema": {"$ref": "#/components/schemas/Pictures"}},
            },
        },
        "responses": {
            "200": _json("What the models say.", _reference("Predictions")),
            **_errors(400, 408, 413, 415, 503),
        },
    }


def _infer() -> Schema:
    return {
        "summary": "Classify pictures by the Open Inference Protocol, version 2",
        "description": "Image files as BYTES, in base64 where they stand in JSON, or RGB `pixels` "
        f"as UINT8. Binary tensors come after the JSON, whose length `{LENGTH_HEADER}` says; see "
        "the protocol's binary tensor data extension.",
        "externalDocs": {"url": "https://github.com/kserve/open-inference-protocol"},
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _reference("Inference")}},
        },
        "responses": {
            "200": _json("The outputs.", _reference("Outputs")),
            **_errors(400, 404, 408, 413, 415, 503),
        },
    }


def _heads() -> Schema:
    archive = {"schema": {"type": "string", "format": "binary"}}
    labels = {"type": "array", "items": {"type": "string"}}
    answer = _object({"name": {"type": "string"}, "labels": labels})
    return {
        "summary": "Go on with another head",
        "description": "The body is the archive that `fic export --head-only` writes for the base "
        "that is served.",
        "security": [{"token": []}],
        "requestBody": {"required": True, "content": {"application/zip": archive}},
        "responses": {
            "200": _json("It is served from now on.", answer),
            **_errors(400, 401, 404, 408, 413, 415, 503),
        },
    }


def _of_model(operation: Schema) -> Schema:
    operation["responses"] |= _errors(404)
    return operation


def _name(models: list[str]) -> Schema:
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": models},
    }


def _schemas(service: Service) -> Schema:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    number, flag = {"type": ["number", "null"]}, {"type": ["boolean", "null"]}
    score = _object({"label": text, "probability": number})
    prediction = {
        "label": text,
        "index": whole,
        "probability": number,
        "known": {**flag, "description": "null where the bundle cannot tell"},
        "ood_score": number,
        "top": {"type": "array", "items": score},
    }
    if service.models.several:
        heads = {"type": "object", "additionalProperties": _object(prediction)}
        of_picture = _object({"file": text, "heads": heads})
    else:
        of_picture = _object({"file": text, **prediction})
    predictions = {"type": "array", "items": of_picture}
    tensor = {"name": text, "datatype": text, "shape": {"type": "array"}}
    tensors = {"type": "array", "items": {"type": "object", "required": [*tensor]}}
    return {
        "Error": _object({"error": text}),
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}}),
        "Server": _object({"name": text, "version": text, "extensions": {"type": "array"}}),
        "ModelReady": _object({"name": text, "ready": {"type": "boolean"}}),
        "Model": _object(
            {
                "name": text,
                "versions": {"type": "array", "items": {"const": VERSION}},
                "platform": text,
                "inputs": tensors,
                "outputs": tensors,
                "labels": {"type": "array", "items": text},
            }
        ),
        "Pictures": _pictures(service.limits.max_pictures),
        "Predictions": _object({"model": text, "predictions": predictions}),
        "Inference": _inference(service.limits.max_pictures),
        "Outputs": {
            "type": "object",
            "properties": {"model_name": text, "model_version": text, "outputs": tensors},
            "required": ["model_name", "model_version", "outputs"],
        },
    }


def _pictures(most: int) -> Schema:
    one = {"type": "string", "format": BASE64_FORMAT, "contentEncoding": "base64"}
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": most}
    return {"oneOf": [_closed({"image": one}), _closed({"images": several})]}


def _inference(most: int) -> Schema:
    # The length of the data is that of the shape, which a schema can say number by number only.
    one = {"type": "string", "format": BASE64_FORMAT, "contentEncoding": "base64"}
    inputs = [
        _object(
            {
                "name": {"const": "file"},
                "datatype": {"const": "BYTES"},
                "shape": {"const": [number]},
                "data": {"type": "array", "items": one, "minItems": number, "maxItems": number},
            }
        )
        for number in range(1, most + 1)
    ]
    return {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {
                "type": "array", "items": {"oneOf": inputs}, "minItems": 1, "maxItems": 1,
            },
        },
        "required": ["inputs"],
    }  # fmt: skip


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _closed(properties: Schema) -> Schema:
    return {**_object(properties), "additionalProperties": False}


def _get(summary: str, schema: str, *others: int) -> Schema:
    more = {str(status): _json("Not yet.", _reference(schema)) for status in others}
    return {
        "summary": summary,
        "responses": {"200": _json("The answer.", _reference(schema)), **more},
    }


def _reference(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def _json(what: str, schema: Schema) -> Schema:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _text(what: str, kind: str) -> Schema:
    return {"description": what, "content": {kind: {"schema": {"type": "string"}}}}


_WHY = {
    400: "The request or a picture makes no sense, or has too many pixels or pictures.",
    401: "The token is missing or another one.",
    404: "A model of this name does not exist.",
    408: "The body did not come in time.",
    413: "Too many bytes.",
    415: "The body is compressed.",
    503: "Not ready, or too many pictures wait; Retry-After says when to ask again.",
}


def _errors(*statuses: int) -> Schema:
    answers = {str(status): _json(_WHY[status], _reference("Error")) for status in statuses}
    if "503" in answers:
        retry = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        answers["503"]["headers"] = {"Retry-After": retry}
    return answers
