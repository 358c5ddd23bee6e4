"""Bundles to read, and copies of them to damage."""

import dataclasses
import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from fic_runtime import cli
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.head_only import files_of_the_head, head_files

DATA = Path(__file__).parents[1] / "data"
BIAS = struct.pack("<f", 0.1234567)  # of the golden head's first label; see make_bundle.py
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


@pytest.fixture(scope="session")
def make_head(golden: Path) -> Callable[..., Path]:
    """Return a function that writes a head-only bundle for the golden one's base.

    The bias of its first label is `bias`: at 9 it always gives that label, at -9 never.
    """

    def write(
        place: Path,
        *,
        bias: float = 0.1234567,
        labels: Sequence[str] = ("eins", "zwei", "drei"),
        **changes: Any,
    ) -> Path:
        place.parent.mkdir(exist_ok=True)
        whole = open_bundle(golden)
        graph = whole.files.read("head.onnx")
        assert graph.count(BIAS) == 1
        files = files_of_the_head(whole) | {
            "head.onnx": graph.replace(BIAS, struct.pack("<f", bias)),
            "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        }
        files = head_files(
            dataclasses.replace(whole.manifest, labels=tuple(labels), **changes), files
        )
        if place.suffix == ".zip":
            with ZipFile(place, "w") as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
        else:
            place.mkdir()
            for name, data in files.items():
                (place / name).write_bytes(data)
        return place

    return write


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command and returns (exit code, stdout, stderr)."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(each) for each in arguments])
        out, err = capfd.readouterr()
        code = end.value.code
        return code if isinstance(code, int) else 0, out, err

    return command
