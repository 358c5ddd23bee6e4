"""`fic-runtime info`."""

import argparse
from typing import TYPE_CHECKING

from .options import add_bundle

if TYPE_CHECKING:
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        help="show the contents of a bundle",
        description="Verify the files of a bundle and show its contents.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _run(options: argparse.Namespace) -> int:
    from ..bundle import open_bundle
    from ..errors import printable, printable_json

    bundle = open_bundle(options.bundle, public_key=options.public_key)
    manifest = bundle.manifest
    if options.json:
        print(printable_json(manifest.to_json()), end="")
        return 0
    if manifest.head_only:
        print("head only   use it with the bundle of its base: predict BUNDLE --head HEAD")
    geometry = manifest.preprocessing.geometry
    print(f"labels      {len(manifest.labels)}: {', '.join(map(printable, manifest.labels))}")
    print(f"input       {geometry.width}x{geometry.height} RGB, {geometry.resize}")
    for key, value in manifest.origin.items():
        print(printable(f"{key:<11} {value}"))
    for group in (manifest.metrics, manifest.parity, manifest.versions):
        for key, value in group.items():
            if not isinstance(value, dict | list):
                print(printable(f"{key:<24} {value}"))
    for key, value in manifest.quantization.items():
        if not isinstance(value, dict | list):
            print(printable(f"quantization {key:<24} {value}"))
    if manifest.known is not None:
        known = manifest.known
        print(printable(f"{'known by':<24} {known.method}, up to {known.threshold:.6g}"))
    for file in sorted(manifest.files):
        if file in manifest.own_files:
            print(printable(f"{file:<24} {bundle.files.size(file)} bytes"))
        else:
            print(printable(f"{file:<24} not in here: the base is {manifest.files[file]}"))
    return 0
