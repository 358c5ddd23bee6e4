"""Build the page and its engine from ../web with npm; a source distribution has them already.

`python hatch_build.py` does the same in a checkout, for the tests.
"""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # as a script it needs none
    BuildHookInterface = object

_PAGE = ("page.html", "page.css", "page.js", "worker.js")
_WASM = "ort-wasm-simd-threaded.wasm"


class BuiltPage(BuildHookInterface):  # type: ignore[misc,unused-ignore] # untyped without hatchling
    """Put the built files into the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build them, unless this is a source distribution, which has no ../web."""
        build_page(Path(self.root))


def build_page(root: Path) -> None:
    """Build ../web, and copy what pages need into fic_runtime_html/built."""
    web, built = root.parent / "web", root / "fic_runtime_html/built"
    if not (web / "package-lock.json").is_file():
        if not (built / _PAGE[0]).is_file():
            sys.exit(f"{built}: is not there, and nothing to build it from; use a checkout of fic")
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to build the page; install Node.js 18 or newer")
    # `ci` takes what package-lock.json names, by version and checksum, and nothing else.
    for arguments in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run([npm, *arguments], cwd=web, check=True, stdout=sys.stderr)
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    for name in _PAGE:
        shutil.copyfile(web / "dist" / name, built / name)
    packed = gzip.compress((web / "dist" / _WASM).read_bytes(), compresslevel=9, mtime=0)
    (built / f"{_WASM}.gz").write_bytes(packed)


if __name__ == "__main__":
    build_page(Path(__file__).parent)
