"""Bodies of requests, read whole within limits, and the pictures that they hold."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from .answers import RefusalError
from .limits import Limits
from .workers import Picture

Parsed = TypeVar("Parsed")

_SMALL = 65_536  # bytes
_MAX_FIELDS = 64
_SECONDS_TO_DRAIN = 2.0


class Bodies:
    """Reads bodies, and counts the bytes that are in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Give the whole body, which counts as held until the context ends.

        Raises:
            RefusalError: it is too large, comes too slowly, or too much is held already.
            ClientDisconnect: the client went away.
        """
        limits, length = self._limits, _stated_length(request)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise await _refused(request, 415, "send the body as it is, not compressed", "encoding")
        if length > limits.max_bytes:
            raise await _refused(request, 413, self._too_large(), "bytes")
        chunks: list[bytes] = []
        size = 0
        try:
            try:
                async with asyncio.timeout(limits.body_seconds):
                    async for chunk in request.stream():
                        size += len(chunk)
                        self.held += len(chunk)
                        if size > limits.max_bytes:
                            raise await _refused(request, 413, self._too_large(), "bytes")
                        if self.held > limits.max_held_bytes:
                            raise await _refused(
                                request, 503, "too many bodies are held already; try again later",
                                "held", {"Retry-After": "1"},
                            )  # fmt: skip
                        chunks.append(chunk)
            except TimeoutError:
                raise RefusalError(
                    408,
                    f"the body did not come within {limits.body_seconds:g} s",
                    reason="deadline",
                    headers={"Connection": "close"},
                ) from None
            request.scope["state"]["body_read"] = True
            yield b"".join(chunks)
        finally:
            self.held -= size

    def _too_large(self) -> str:
        return f"a body has at most {self._limits.max_bytes} bytes here; make the picture smaller"


def _stated_length(request: Request) -> int:
    text = request.headers.get("content-length") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 20):  # some servers let it pass
        raise bad_request("Content-Length is not a number of bytes")
    return int(text)


async def _refused(
    request: Request, status: int, why: str, reason: str, headers: dict[str, str] | None = None
) -> RefusalError:
    await drain(request)
    return RefusalError(
        status, why, reason=reason, headers={**(headers or {}), "Connection": "close"}
    )


async def drain(request: Request) -> None:
    """Take in, for a while, what the client would not stop sending, before it is refused.

    A connection that is closed while the client still sends is reset, and the client would see
    that instead of the answer. One that asks first (`Expect: 100-continue`) is told at once.
    """
    if "expect" not in request.headers and "body_read" not in request.scope["state"]:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_TO_DRAIN):
                while (await request.receive()).get("more_body"):
                    pass


async def pictures_of(request: Request, body: bytes, limits: Limits) -> list[Picture]:
    """Return the pictures of a `POST /predict`: a raw body, multipart, or JSON with base64.

    Raises:
        RefusalError: there are none, too many, or the body is not what its type says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        pictures = await apart(len(body), _multipart, request.headers["content-type"], body, limits)
    elif kind == "application/json":
        pictures = await apart(len(body), _from_json, body, limits)
    else:
        pictures = [Picture(body)]
    check_number(len(pictures), limits)
    return pictures


def check_number(pictures: int, limits: Limits) -> None:
    """Make sure that there is a picture, and that there are not too many.

    Raises:
        RefusalError: there are.
    """
    if not pictures:
        raise bad_request("no picture is in the request; send at least one")
    if pictures > limits.max_pictures:
        raise too_many_pictures(limits)


def too_many_pictures(limits: Limits) -> RefusalError:
    """Return the refusal of a request with too many pictures."""
    return RefusalError(
        400,
        f"a request has at most {limits.max_pictures} pictures here; send several requests",
        reason="pictures",
    )


def bad_request(why: str) -> RefusalError:
    """Return the refusal of a request that makes no sense."""
    return RefusalError(400, why, reason="request")


def read_json(text: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        RefusalError: it is none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise bad_request("the body is not a JSON object")
    return values


def from_base64(text: Any, name: str) -> Picture:
    """Return the picture that base64 stands for.

    Raises:
        RefusalError: it is not base64.
    """
    try:
        return Picture(base64.b64decode(text, validate=True), name)
    except (TypeError, ValueError, binascii.Error):
        raise bad_request(f"{name} is not base64") from None


async def apart(size: int, parse: Callable[..., Parsed], *arguments: Any) -> Parsed:
    """Parse so many bytes: in a thread if they are many, for other clients are not to wait."""
    # Any: what goes in is what the function takes.
    if size <= _SMALL:
        return parse(*arguments)
    return await run_in_threadpool(parse, *arguments)


def _multipart(content_type: str, body: bytes, limits: Limits) -> list[Picture]:
    from python_multipart import create_form_parser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import Field, File

    pictures: list[Picture] = []
    fields: list[None] = []

    def keep(file: File) -> None:
        content = file.file_object
        content.seek(0)
        name = (file.file_name or b"").decode("utf-8", "replace")
        pictures.append(Picture(content.read(), name or f"picture {len(pictures)}"))
        file.close()
        if len(pictures) > limits.max_pictures:
            raise too_many_pictures(limits)

    # Left out: everything else that a request can say is in its query.
    def count(_: Field) -> None:
        fields.append(None)
        if len(fields) > _MAX_FIELDS:
            raise FormParserError(f"it has more than {_MAX_FIELDS} fields of text")

    headers = {"Content-Type": content_type.encode("latin-1", "replace")}
    try:
        # In memory, whose size is limited already, and never on disk.
        config = {"MAX_MEMORY_FILE_SIZE": float("inf")}
        parser = create_form_parser(headers, count, keep, config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise bad_request(f"the body is not multipart/form-data ({error})") from None
    found = pictures.copy()
    pictures.clear()  # the parser refers to itself, and would keep them for a while
    return found


def _from_json(body: bytes, limits: Limits) -> list[Picture]:
    values = read_json(body)
    if unknown := sorted(values.keys() - {"image", "images"}):
        raise bad_request(f"{', '.join(unknown)}: unknown; give image or images")
    if len(values) != 1:
        raise bad_request('give either "image" or "images"')
    if "image" in values:
        return [from_base64(values["image"], "image")]
    if not isinstance(values["images"], list):
        raise bad_request("images is a list of pictures in base64")
    check_number(len(values["images"]), limits)
    return [from_base64(text, f"picture {n}") for n, text in enumerate(values["images"])]
