"""`fic-runtime doctor`."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import Commands

_INT8 = {
    "exact": "sums are exact: int8 bases run on ONNX Runtime's quick kernels",
    "saturating": "sums of the quick kernels saturate: int8 bases run on slower, exact ones, "
    "hardly faster than float32",
}


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine",
        description="Show versions, processors, limits and working execution providers. The exit "
        "code is 1 if there is a problem.",
    )
    parser.set_defaults(command=_run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..diagnostics.doctor import examine
    from ..errors import printable

    found = examine()
    if options.json:
        print(json.dumps(asdict(found)))
        return 1 if found.problems else 0
    there, usable = found.processors
    limits = (
        "no limit" if found.processor_limit is None else f"{found.processor_limit:g} processors",
        "no limit" if found.memory_limit is None else f"{found.memory_limit / 1e9:.1f} GB",
    )
    print(f"system      {found.system}")
    print(f"processor   {found.processor or 'not known'}")
    print(f"            {usable} of {there} usable; {' '.join(found.features)}")
    print(f"int8        {_INT8[found.int8_sums]}")
    if found.graphs_not_kept is not None:
        print(
            f"graphs      not kept ({printable(found.graphs_not_kept)}): each start is slower; "
            "FIC_CACHE_DIR names another folder"
        )
    print(f"container   processors: {limits[0]}; memory: {limits[1]}")
    for name, number in found.versions.items():
        print(f"{name:<11} {number}")
    for check in found.providers:
        print(f"{check.name}: {'works' if check.usable else f'not usable ({check.reason})'}")
    for problem in found.problems:
        print(f"PROBLEM: {problem}")
    return 1 if found.problems else 0
