"""`fic-runtime serve`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FicError, ServerError
from .heads import add_heads, answer_by_head, open_heads
from .options import (
    add_bundle,
    add_device_alone,
    open_classifier,
    positive,
    seconds,
    some_path,
)

if TYPE_CHECKING:
    from ..server import Limits
    from .options import Commands

_TOKEN = "FIC_SERVE_TOKEN"


class _SelfTestError(FicError):
    exit_code = 3


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="classify pictures over HTTP",
        description="Classify pictures over HTTP: POST a picture to /predict, or ask by the Open "
        "Inference Protocol at /v2; /docs describes all addresses. Prints the address and logs "
        "JSON lines to stderr. On SIGTERM and Ctrl-C, accepted requests are finished. Needs "
        "`pip install 'fic-runtime[serve]'`.",
    )
    parser.set_defaults(command=serve_bundle)
    add_bundle(parser)
    add_heads(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for all of this machine (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="port; 0 for any free one (default: 8000)"
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of the model (default: that of the bundle's folder)"
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow requests of web pages from this origin, * for all; repeat it for several",
    )
    parser.add_argument(
        "--page",
        type=some_path,
        metavar="DIR",
        help="folder of a page to serve at /, instead of the built-in one",
    )
    parser.add_argument(
        "--watch-heads",
        type=some_path,
        metavar="DIR",
        help="serve the newest head in this folder as soon as it appears; with several heads, "
        "those of their names",
    )
    parser.add_argument(
        "--accept-heads",
        action="store_true",
        help=f"accept new heads at /v2/models/NAME/heads from clients that send the token in "
        f"${_TOKEN}",
    )
    parser.add_argument(
        "--no-selftest",
        action="store_true",
        help="skip the comparison of results on this device with those recorded at export",
    )
    parser.add_argument("--no-access-log", action="store_true", help="do not log requests")
    add_device_alone(parser)
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    # Its defaults are told once more here: the module needs packages that may not be installed.
    group = parser.add_argument_group("limits")
    for option, kind, what in (
        ("workers", positive, "pictures worked on at once (default: one for each processor)"),
        ("batch-size", positive, "most pictures in one batch (default: 1; 32 on a GPU)"),
        ("max-bytes", positive, "most bytes of one request (default: 20971520)"),
        ("max-pixels", positive, "most pixels of a picture (default: $FIC_MAX_PIXELS or 33554432)"),
        ("max-pictures", positive, "most pictures of one request (default: 16)"),
        ("max-queue", positive, "most waiting pictures (default: 16 for each worker, at least 32)"),
        ("max-held-bytes", positive, "most bytes of all requests in memory (default: 268435456)"),
        ("max-connections", positive, "most open connections (default: 512)"),
        ("header-seconds", seconds, "seconds to wait for the header of a request (default: 10)"),
        ("body-seconds", seconds, "seconds to wait for its body after that (default: 30)"),
    ):
        metavar = "S" if kind is seconds else "N"
        group.add_argument(f"--{option}", type=kind, metavar=metavar, help=what)


def serve_bundle(options: argparse.Namespace) -> int:
    """Serve until the process is told to end."""
    try:
        from ..server import create_app
        from ..server.models import check_folder, model_name
        from ..server.running import bind, log_as_json, serve
        from ..server.service import HeadUpdates
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "fic_runtime":
            raise
        raise ServerError(
            f"the server needs the package {package}; install it with "
            "`pip install 'fic-runtime[serve]'`"
        ) from error
    limits, token = _limits(options), os.environ.get(_TOKEN)
    if options.accept_heads and not token:
        raise ServerError(f"--accept-heads needs a token; set {_TOKEN} to a long random text")
    if options.watch_heads is not None:
        check_folder(options.watch_heads)
    if options.page is not None and not (options.page / "index.html").is_file():
        raise ServerError(f"{options.page}: has no index.html; give the folder of a page")
    log_as_json(access=not options.no_access_log)
    # One thread of ONNX Runtime for each picture: several come at once.
    options.threads = 1
    several = answer_by_head(options)
    with (
        bind(options.host, options.port) as listener,
        open_heads(options) if several else open_classifier(options) as classifier,
    ):
        app = create_app(
            classifier,
            name=options.name or model_name(options.bundle),
            limits=limits,
            check=None if options.no_selftest else lambda: _check(options),
            cors=options.cors,
            updates=HeadUpdates(
                folder=options.watch_heads, token=token if options.accept_heads else None
            ),
            page=options.page,
        )
        host, port = listener.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        service = serve(app, listener, limits)
        if service.failure is not None:
            raise service.failure
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise where this device does not give the results that were recorded at export."""
    from ..diagnostics.selftest import run_selftest
    from .heads import paths_of_heads

    heads: list[Path | None] = [*paths_of_heads(options)]
    for head in heads or [None]:
        result = run_selftest(
            options.bundle,
            head=head,
            device=options.device,
            allow_fallback=options.allow_fallback,
            threads=options.threads,
            public_key=options.public_key,
        )
        if not result.passed:
            raise _SelfTestError(
                f"{head or options.bundle}: this device gives other results than those recorded at "
                "export; see `fic-runtime selftest`"
            )


def _limits(options: argparse.Namespace) -> "Limits":
    from dataclasses import fields

    from ..server import Limits

    given = {field.name: getattr(options, field.name, None) for field in fields(Limits)}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _port(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return number
