"""int8 keeps its sums on every processor, and its speed on those that keep them anyway."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fic_runtime.devices import CPU
from fic_runtime.graphs import int8_sums, sessions
from fic_runtime.graphs.int8_sums import int8_sums_saturate, largest_sum
from fic_runtime.graphs.sessions import EXACT_INT8, SessionOptions, new_session

X86 = platform.machine() in {"x86_64", "AMD64"}
PROBE = "from fic_runtime.graphs.int8_sums import *; from fic_runtime.graphs.sessions import *; "


@pytest.fixture(autouse=True)
def _another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a cache folder of its own, and forget what this process found out."""
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    int8_sums_saturate.cache_clear()
    yield
    int8_sums_saturate.cache_clear()


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what the convolution gives in turn, instead of what it gives here."""
    answers: list[int] = []
    monkeypatch.setattr(int8_sums, "largest_sum", lambda: answers.pop(0))
    return answers


def test_the_kernels_that_are_asked_for_lose_nothing_on_any_processor() -> None:
    assert largest_sum(EXACT_INT8) == 200


@pytest.mark.parametrize(("sum_", "saturates"), [(200, False), (101, True)])
def test_a_processor_is_tried_once_and_remembered(
    sum_: int, saturates: bool, sums: list[int]
) -> None:
    sums.append(sum_)
    assert int8_sums_saturate() is saturates
    int8_sums_saturate.cache_clear()
    assert int8_sums_saturate() is saturates  # or the list would have been empty


@pytest.mark.parametrize("content", [b"", b"maybe", b"\xff" * 1000])
def test_what_makes_no_sense_is_tried_again(content: bytes, sums: list[int]) -> None:
    sums += [200, 101]
    assert not int8_sums_saturate()
    (file,) = Path(os.environ["FIC_CACHE_DIR"], "graphs").iterdir()
    file.write_bytes(content)
    int8_sums_saturate.cache_clear()
    assert int8_sums_saturate()


@pytest.mark.parametrize("folder", ["", "/dev/null/cache"])
def test_without_a_cache_folder_each_process_tries(
    folder: str, sums: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_CACHE_DIR", folder)
    sums += [200, 101]
    assert not int8_sums_saturate()
    int8_sums_saturate.cache_clear()
    assert int8_sums_saturate()


def test_other_processors_are_not_tried(sums: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not int8_sums_saturate()


@pytest.mark.parametrize("saturates", [True, False])
def test_a_session_has_other_kernels_only_where_sums_would_saturate(
    saturates: bool, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "int8_sums_saturate", lambda: saturates)
    session = new_session(golden / "base.onnx", SessionOptions(providers=(CPU,), threads=1))
    options = session.get_session_options()
    if saturates:
        assert options.get_session_config_entry(EXACT_INT8[0]) == EXACT_INT8[1]
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(EXACT_INT8[0])


@pytest.mark.skipif(
    not X86 or shutil.which("qemu-x86_64") is None, reason="emulates x86 processors with QEMU"
)
@pytest.mark.parametrize("processor", ["Haswell", "Skylake-Server"])
def test_processors_without_vnni_saturate_and_are_found_out(processor: str) -> None:
    program = f"{PROBE}print(largest_sum(), largest_sum(EXACT_INT8), int8_sums_saturate())"
    emulated = subprocess.run(
        ["qemu-x86_64", "-cpu", processor, os.path.realpath(sys.executable), "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert emulated.stdout.split() == ["101", "200", "True"]
