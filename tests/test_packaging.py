"""What is installed: two wheels with exactly their packages, and a runtime that stands alone."""

import email
import email.message
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# What an environment with only fic-runtime lacks, of all that the tests' environment has.
TRAINING_ONLY = ("fic", "fic_export", "tensorflow", "keras", "onnx", "tf2onnx", "h5py", "click")


def project(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    table: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))["project"]
    return table


@dataclass(frozen=True)
class Wheel:
    modules: dict[str, bytes]
    files: frozenset[str]
    metadata: email.message.Message
    commands: dict[str, str]

    @property
    def packages(self) -> set[str]:
        return {name.split("/")[0] for name in self.files if ".dist-info/" not in name}

    @property
    def requirements(self) -> dict[str, str]:
        """Version range of each package that is always needed."""
        needed: dict[str, str] = {}
        for line in self.metadata.get_all("Requires-Dist", []):
            if match := re.fullmatch(r"([A-Za-z0-9._-]+)([^;]*)", line):
                needed[match[1]] = match[2]
        return needed


def build(folder: Path, out: Path, *, by_way_of_sdist: bool = False) -> Wheel:
    kind = [] if by_way_of_sdist else ["--wheel"]
    subprocess.run(
        [sys.executable, "-m", "build", *kind, "--no-isolation", "--outdir", out, folder],
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    return read_wheel(file)


def read_wheel(file: Path) -> Wheel:
    with zipfile.ZipFile(file) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        entry_points = ConfigParser()
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        return Wheel(
            {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name},
            frozenset(archive.namelist()),
            email.message_from_bytes(archive.read(f"{info}/METADATA")),
            dict(entry_points["console_scripts"]),
        )


@pytest.fixture(scope="module")
def fic_wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build(ROOT, tmp_path_factory.mktemp("fic"))


@pytest.fixture(scope="module")
def runtime_wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build(ROOT / "runtime", tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module", params=["checkout", "source distribution"])
def gpu_wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build(
        ROOT / "runtime/gpu",
        tmp_path_factory.mktemp("gpu"),
        by_way_of_sdist=request.param == "source distribution",
    )


def sources(folder: Path) -> set[str]:
    return {file.relative_to(folder.parent).as_posix() for file in folder.rglob("*.py")}


def test_the_wheel_of_fic_holds_its_two_packages_and_nothing_else(fic_wheel: Wheel) -> None:
    assert fic_wheel.packages == {"fic", "fic_export"}
    assert sources(ROOT / "fic") | sources(ROOT / "export/fic_export") <= fic_wheel.files
    assert {"fic/py.typed", "fic_export/py.typed"} <= fic_wheel.files


def test_the_wheel_of_the_runtime_holds_its_package_and_nothing_else(runtime_wheel: Wheel) -> None:
    assert runtime_wheel.packages == {"fic_runtime"}
    assert sources(ROOT / "runtime/fic_runtime") <= runtime_wheel.files
    assert "fic_runtime/py.typed" in runtime_wheel.files


def test_the_wheel_for_gpus_is_the_runtime_with_another_onnx_runtime(
    runtime_wheel: Wheel, gpu_wheel: Wheel
) -> None:
    assert gpu_wheel.modules == runtime_wheel.modules
    assert gpu_wheel.commands == runtime_wheel.commands
    assert gpu_wheel.metadata["Name"] == "fic-runtime-gpu"
    assert gpu_wheel.metadata["Version"] == runtime_wheel.metadata["Version"]
    assert any(name.endswith("licenses/LICENSE") for name in gpu_wheel.files)
    renamed = {
        name.replace("onnxruntime-gpu", "onnxruntime"): versions
        for name, versions in gpu_wheel.requirements.items()
    }
    assert renamed == runtime_wheel.requirements
    assert "onnxruntime" not in gpu_wheel.requirements


def test_the_wheels_install_their_commands(fic_wheel: Wheel, runtime_wheel: Wheel) -> None:
    assert fic_wheel.commands == {"fic": "fic.cli:main"}
    assert runtime_wheel.commands == {"fic-runtime": "fic_runtime.cli:main"}


def test_the_wheels_carry_licence_and_description(fic_wheel: Wheel, runtime_wheel: Wheel) -> None:
    for wheel in (fic_wheel, runtime_wheel):
        assert wheel.metadata["License-Expression"].startswith("Apache-2.0")
        assert any(name.endswith("licenses/LICENSE") for name in wheel.files)
        assert wheel.metadata.get_payload()


def test_the_runtime_has_three_dependencies(runtime_wheel: Wheel) -> None:
    assert set(runtime_wheel.requirements) == {"numpy", "onnxruntime", "opencv-python-headless"}


def test_what_both_need_they_need_in_the_same_versions(
    fic_wheel: Wheel, runtime_wheel: Wheel
) -> None:
    shared = runtime_wheel.requirements.items() & fic_wheel.requirements.items()
    assert dict(shared) == runtime_wheel.requirements


def test_versions_agree() -> None:
    version = project(ROOT)["version"]
    assert project(ROOT / "runtime")["version"] == version
    major, minor, _ = map(int, version.split("."))
    assert f"fic-runtime>={major}.{minor},<{major}.{minor + 1}" in project(ROOT)["dependencies"]


def test_no_module_repeats_the_version() -> None:
    version = re.escape(project(ROOT)["version"])
    for folder in ("fic", "export", "runtime/fic_runtime"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not re.search(rf"[\"']{version}[\"']", file.read_text("utf-8")), file


REFUSE = f"""
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAINING_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Refuse())
"""


def run_without_training(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "only_runtime.py").write_text(REFUSE)
    path = [str(folder), str(ROOT / "runtime")]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow  # `make test-runtime` does it in an environment of its own
def test_the_runtime_s_tests_pass_without_anything_for_training(tmp_path: Path) -> None:
    """`make test-runtime` does this in a real environment; here it needs no network."""
    result = run_without_training(
        tmp_path, "-m", "pytest", "-p", "only_runtime", "-p", "no:cacheprovider", "tests/runtime"
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert re.search(r"\d+ passed", result.stdout)


@pytest.mark.parametrize("name", TRAINING_ONLY)
def test_what_is_refused_is_really_refused(tmp_path: Path, name: str) -> None:
    result = run_without_training(tmp_path, "-c", f"import only_runtime, {name}")
    assert f"No module named '{name}'" in result.stderr
