"""Bundles to read, and copies of them to damage."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data"
Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the golden bundle of the current format; not to be changed."""
    return DATA / "bundle-v1"


@pytest.fixture
def bundle(golden: Path, tmp_path: Path) -> Path:
    """Return a copy of the golden bundle that a test may damage."""
    return Path(shutil.copytree(golden, tmp_path / "bundle"))


@pytest.fixture
def edit(bundle: Path) -> Edit:
    """Return a function that changes the copy's manifest, given as JSON values."""

    def change(how: Callable[[dict[str, Any]], Any]) -> None:
        file = bundle / "manifest.json"
        values = json.loads(file.read_text("utf-8"))
        how(values)
        file.write_text(json.dumps(values), encoding="utf-8")

    return change


@pytest.fixture
def replace(bundle: Path, edit: Edit) -> Callable[[str, bytes], None]:
    """Return a function that writes a file of the copy and makes its digest again."""

    def write(name: str, data: bytes) -> None:
        (bundle / name).write_bytes(data)
        edit(lambda values: values["files"].update({name: hashlib.sha256(data).hexdigest()}))

    return write
