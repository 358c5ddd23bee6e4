"""A bundle inside a web application of one's own; needs fic-runtime[serve].

    python examples/web_service.py BUNDLE --port 8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/classifier/predict
    curl http://127.0.0.1:8000/

The whole of `fic-runtime serve` is mounted at /classifier, its limits, metrics and documentation
included. Any ASGI application mounts it in this way, one of FastAPI too.
"""

import argparse
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from fic_runtime import FicError
from fic_runtime.server import Limits, create_app


async def hello(request: Request) -> PlainTextResponse:
    """Stand for what the application does besides."""
    return PlainTextResponse("Send a picture to /classifier/predict; see /classifier/docs.\n")


def application(bundle: str) -> Starlette:
    """Return the application, which starts and ends the classifier with itself."""
    classifier = create_app(bundle, limits=Limits(max_bytes=5_000_000))
    return Starlette(
        routes=[Route("/", hello), Mount("/classifier", classifier)],
        lifespan=lambda _: classifier.router.lifespan_context(classifier),
    )


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        app = application(options.bundle)
    except FicError as error:
        sys.exit(str(error))
    uvicorn.run(app, port=options.port)


if __name__ == "__main__":
    main()
