"""Take the package from the folder above; in a source distribution it lies beside this file."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = "fic_runtime"


class SourcesOfRuntime(BuildHookInterface[Any]):
    """Add the sources of fic-runtime to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to the files of the distribution."""
        beside = Path(self.root, _PACKAGE)
        source = beside if beside.is_dir() else Path(self.root).parent / _PACKAGE
        build_data["force_include"][str(source)] = _PACKAGE
