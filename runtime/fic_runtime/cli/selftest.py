"""`fic-runtime selftest`."""

import argparse
import json
from typing import TYPE_CHECKING

from .heads import add_head
from .options import add_bundle, add_device

if TYPE_CHECKING:
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "selftest",
        help="compare results on this device with those recorded at export",
        description="Compare results on this device with those recorded at export. The exit code "
        "is 3 if they differ.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_head(parser)
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..diagnostics.selftest import PIXEL_TOLERANCE, run_selftest

    result = run_selftest(
        options.bundle,
        head=options.head,
        device=options.device,
        allow_fallback=options.allow_fallback,
        threads=options.threads,
        public_key=options.public_key,
    )
    if options.json:
        print(json.dumps({**asdict(result), "passed": result.passed}))
    else:
        print(f"{result.pictures} pictures on {result.provider}")
        print(f"pixels         {result.pixels} grey levels (at most {PIXEL_TOLERANCE})")
        limits = (result.bottlenecks_tolerance, result.probabilities_tolerance)
        print(f"bottlenecks    {result.bottlenecks:.1e} relative (at most {limits[0]:.0e})")
        print(f"probabilities  {result.probabilities:.1e} (at most {limits[1]:.0e})")
        print("passed" if result.passed else "FAILED: this device gives other results")
    return 0 if result.passed else 3
