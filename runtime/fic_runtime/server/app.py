"""The ASGI application: which address answers what."""

import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from ..classifier import Classifier
from ..diagnostics.doctor import runtime_version
from ..errors import FicError, ImageError, printable
from ..multi_classifier import MultiClassifier
from .access import GONE, ID_HEADER, Access
from .answers import Json, RefusalError, predictions_json, refusal_of
from .bodies import apart, bad_request, drain, pictures_of
from .inference_protocol import (
    EXTENSIONS,
    LENGTH_HEADER,
    VERSION,
    inference_response,
    metadata,
    read_inference,
)
from .limits import Limits
from .metrics import CONTENT_TYPE
from .models import Models, model_name
from .openapi import document
from .pages import PAGE_FOLDER, POLICY, docs_page, upload_page
from .service import HeadUpdates, Service
from .workers import FullError

DEFAULT_TOP = 5

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    classifier: Classifier | MultiClassifier | str | os.PathLike[str],
    *,
    name: str | None = None,
    limits: Limits | None = None,
    check: Callable[[], None] | None = None,
    cors: Sequence[str] = (),
    updates: HeadUpdates | None = None,
    page: Path | None = None,
) -> Starlette:
    """Make an ASGI application of a classifier, to be served or mounted in another application.

    Another application starts and ends it by its lifespan, `app.router.lifespan_context(app)`;
    without that it starts at the first request.

    Args:
        classifier: or a bundle's path. One of your own may have any number of threads: pictures
            that come at once have one each; closing it is yours.
        name: of the model; by default that of the bundle's folder. Several heads have their own.
        limits: what the server takes on.
        check: raises a FicError where this device does not give what it should; called once, in a
            thread, before the server is ready.
        cors: origins whose pages may ask from a browser, `*` for all.
        updates: how other heads may come while the server runs.
        page: a folder with an `index.html`, which is served at `/` instead of the built-in page.

    Raises:
        BundleError: no bundle there, or it is damaged.
        DeviceError: the device cannot be used here.
    """
    own = None
    if isinstance(classifier, str | os.PathLike):
        name = name or model_name(Path(classifier))
        classifier = own = Classifier(classifier, threads=1)
    name = name or "classifier"
    service = Service(
        Models(classifier, name),
        limits or Limits(),
        check=check,
        updates=updates or HeadUpdates(),
        name=name,
        version=runtime_version(),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()
            if own is not None:
                own.close()

    middleware = [Middleware(Access, metrics=service.metrics)]
    if cors:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=cors,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=[ID_HEADER, "Retry-After", LENGTH_HEADER],
            )
        )
    folder = page or (PAGE_FOLDER if (PAGE_FOLDER / "index.html").is_file() else None)
    app = Starlette(
        routes=_Endpoints(service).routes(own_page=folder is None),
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _ErrorAnswers(service),
            FicError: _ErrorAnswers(service),
            FullError: _ErrorAnswers(service),
            ClientDisconnect: _gone,
        },
    )
    app.state.service = service
    _add_files(app, folder)
    return app


def _add_files(app: Starlette, folder: Path | None) -> None:
    if folder is not None:
        # Not mounted at /, where it would answer for every address that has another method.
        app.router.default = StaticFiles(directory=folder, html=True)


class _Endpoints:
    """The endpoints of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self, *, own_page: bool) -> list[BaseRoute]:
        """Return all addresses, with the built-in page at `/` or without it."""
        model = "/v2/models/{name}"
        table: list[tuple[str, str, Endpoint]] = [
            ("POST", "/predict", self.predict),
            ("GET", "/v2", self.server),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.is_ready),
            ("GET", model, self.model),
            ("GET", f"{model}/ready", self.model_ready),
            ("POST", f"{model}/infer", self.infer),
            ("GET", f"{model}/versions/{{version}}", self.model),
            ("GET", f"{model}/versions/{{version}}/ready", self.model_ready),
            ("POST", f"{model}/versions/{{version}}/infer", self.infer),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/docs", self.docs),
        ]
        if self._service.updates.token is not None:
            table.append(("POST", f"{model}/heads", self.take_head))
        if own_page:
            table.append(("GET", "/", self.own_page))
        return [
            Route(path, _Known(path, endpoint), methods=[method])
            for method, path, endpoint in table
        ]

    async def predict(self, request: Request) -> Response:
        """Classify what is in the body."""
        service = self._service
        async with service.bodies.read(request) as body:
            await service.check_ready()
            top = _top(request)
            pictures = await pictures_of(request, body, service.limits)
            answers = await service.classify(request, pictures)
        several = service.models.several
        return predictions_json(service.name, pictures, answers, top=top, several=several)

    async def infer(self, request: Request) -> Response:
        """Answer an inference request of the Open Inference Protocol."""
        service = self._service
        async with service.bodies.read(request) as body:
            name = self._model(request)
            await service.check_ready()
            length = request.headers.get(LENGTH_HEADER)
            inference = await apart(len(body), read_inference, body, length, service.limits)
            answers = await service.classify(request, inference.pictures)
        if any(name not in answer for answer in answers):  # detached meanwhile
            raise HTTPException(404, f"no model is called {name!r}")
        return inference_response(name, inference, [answer[name] for answer in answers])

    async def server(self, request: Request) -> Response:
        """Say what the server is."""
        service = self._service
        return Json(
            {"name": "fic-runtime", "version": service.version, "extensions": list(EXTENSIONS)}
        )

    async def live(self, request: Request) -> Response:
        """Say that the process answers."""
        return Json({"live": True})

    async def is_ready(self, request: Request) -> Response:
        """Say whether the self-test has passed."""
        ready = self._service.ready
        return Json({"ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Say what a model takes and gives."""
        name = self._model(request)
        return Json(metadata(name, self._service.models.manifests[name]))

    async def model_ready(self, request: Request) -> Response:
        """Say whether a model is ready: all are, once the server is."""
        name, ready = self._model(request), self._service.ready
        return Json({"name": name, "ready": ready}, 200 if ready else 503)

    async def take_head(self, request: Request) -> Response:
        """Go on with the head whose archive is the body."""
        service = self._service
        expected = f"Bearer {service.updates.token}".encode()
        given = request.headers.get("authorization", "").encode("latin-1")
        async with service.bodies.read(request) as body:
            if not hmac.compare_digest(given, expected):
                raise RefusalError(
                    401,
                    "send the token as Authorization: Bearer TOKEN",
                    reason="token",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            name = self._model(request)
            await service.take_head(name, body)
        return Json({"name": name, "labels": list(service.models.manifests[name].labels)})

    async def metrics(self, request: Request) -> Response:
        """Give the figures to Prometheus."""
        return Response(self._service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """Describe all this to programs."""
        return Json(document(self._service, request.scope.get("root_path", "")))

    async def docs(self, request: Request) -> Response:
        """Describe all this to people."""
        text = docs_page(document(self._service, request.scope.get("root_path", "")))
        return HTMLResponse(text, headers=POLICY)

    async def own_page(self, request: Request) -> Response:
        """Give a page to drop a picture on."""
        return HTMLResponse(upload_page(), headers=POLICY)

    def _model(self, request: Request) -> str:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if name not in self._service.models.manifests:
            known = ", ".join(self._service.models.manifests)
            raise HTTPException(404, f"no model is called {name!r}; there are: {known}")
        if version != VERSION:
            raise HTTPException(404, f"{name} has no version {version!r}; it has {VERSION}")
        return str(name)


class _ErrorAnswers:
    """Answers errors in JSON: `{"error": "one sentence"}`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request, error: Exception) -> Response:
        """Return the answer, and count it."""
        if isinstance(error, FullError):
            error = refusal_of(error)
        elif isinstance(error, FicError):
            reason = "picture" if isinstance(error, ImageError) else "head"
            # Its frames know the future that it came by: as in the threads, a circle.
            error.__traceback__ = None
            error = RefusalError(400, str(error), reason=reason)
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if isinstance(error, RefusalError):
            self._service.metrics.rejected.labels(error.reason).inc()
        elif request.method == "OPTIONS" and error.status_code == 405:
            allowed = headers.get("Allow", "GET, HEAD")  # files of a page do not say it everywhere
            return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
        elif request.method not in ("GET", "HEAD", "OPTIONS"):  # 404 and 405: nobody read the body
            await drain(request)
            headers["Connection"] = "close"
        return Json({"error": printable(error.detail)}, error.status_code, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


class _Known:
    """An endpoint that tells the middleware its address before all parameters."""

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["route"] = self._path
        response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def _top(request: Request) -> int:
    if not request.scope["query_string"]:  # nearly always
        return DEFAULT_TOP
    text = request.query_params.get("top", str(DEFAULT_TOP))
    digits = text.lstrip("0") if text.isascii() and text.isdecimal() else ""
    if not digits:
        raise bad_request("top is a whole number of at least 1")
    return int(digits[:9])  # more labels than any model has
