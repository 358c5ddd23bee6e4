"""The examination of a machine: what works is tried, and what is wrong is said with its remedy."""

import json
import os

import pytest

from fic_runtime import cli, devices
from fic_runtime.devices import CPU, CUDA
from fic_runtime.diagnostics import doctor
from fic_runtime.diagnostics.doctor import ProviderCheck, examine


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """Make this machine one on which nothing is wrong, without a graphics card."""
    versions = {"fic-runtime": "1", "onnxruntime": "1", "opencv-python-headless": "1"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(doctor, "_NVIDIA_DRIVER", tmp_path / "no-driver")
    monkeypatch.setattr(doctor.onnxruntime, "get_available_providers", lambda: [CPU])
    return versions


def test_the_processor_does_a_sum():
    assert ProviderCheck(name=CPU, usable=True) in examine().providers


def test_a_provider_that_this_build_lacks_is_not_usable(healthy, monkeypatch):
    monkeypatch.setattr(doctor.onnxruntime, "get_available_providers", lambda: ["Magic", CPU])
    magic, cpu = examine().providers
    assert (magic.usable, cpu.usable) == (False, True)
    assert magic.reason


def test_a_provider_that_leaves_the_work_to_the_processor_is_not_usable():
    """Azure's comes with every build for the CPU and can run no operator here."""
    checks = {check.name: check.usable for check in examine().providers}
    if "AzureExecutionProvider" not in checks:
        pytest.skip("this build of ONNX Runtime has no provider of this kind")
    assert not checks["AzureExecutionProvider"]


def test_a_healthy_machine_has_no_problem(healthy):
    assert examine().problems == ()


@pytest.mark.parametrize(
    "rivals",
    [
        ("onnxruntime", "onnxruntime-gpu"),
        ("fic-runtime", "fic-runtime-gpu"),
        ("opencv-python-headless", "opencv-python"),
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python"),
    ],
)
def test_packages_that_overwrite_each_other_are_a_problem(healthy, rivals):
    healthy.update(dict.fromkeys(rivals, "1"))
    (problem,) = examine().problems
    assert f"{' and '.join(rivals)} are installed over each other" in problem
    assert f"pip uninstall -y {' '.join(rivals)}" in problem


def test_a_card_that_this_build_cannot_use_is_a_problem(healthy, tmp_path):
    (tmp_path / "no-driver").touch()
    (problem,) = examine().problems
    assert "built without CUDA" in problem
    assert "onnxruntime-gpu[cuda,cudnn]" in problem


def test_a_card_that_does_not_work_is_a_problem(healthy, tmp_path, monkeypatch):
    (tmp_path / "no-driver").touch()
    broken = ProviderCheck(name=CUDA, usable=False, reason="libcudnn.so.9 not found")
    monkeypatch.setattr(doctor.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(
        doctor,
        "_try_provider",
        lambda name: broken if name == CUDA else ProviderCheck(name=name, usable=True),
    )
    (problem,) = examine().problems
    assert "libcudnn.so.9 not found" in problem


def test_a_wrong_sum_is_not_usable(healthy, monkeypatch):
    class Session:
        def get_providers(self):
            return [CPU]

        def run(self, names, feeds):
            return (feeds["x"],)

    monkeypatch.setattr(doctor, "new_session", lambda *_, **__: Session())
    (check,) = examine().providers
    assert (check.usable, check.reason) == (False, "it says that 1 + 1 is 1.0")
    assert "install onnxruntime again" in examine().problems[0]


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (
            "model name : Fast\nflags : fpu avx avx2 sse\n\nmodel name : x\n",
            "Fast",
            ("avx", "avx2"),
        ),
        ("Features : fp asimd i8mm\nModel : Raspberry Pi 5\n", "Raspberry Pi 5", ("asimd", "i8mm")),
    ],
)
def test_processors_are_told_by_their_names_and_features(
    text, name, features, tmp_path, monkeypatch
):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "_CPU_INFO", tmp_path / "cpuinfo")
    found = examine()
    assert (found.processor, found.features) == (name, features)


@pytest.mark.parametrize(
    ("saturates", "word"), [(False, "sums are exact"), (True, "sums of the quick kernels saturate")]
)
def test_how_int8_is_added_up_here_is_told(saturates, word, run, monkeypatch):
    monkeypatch.setattr(doctor, "int8_sums_saturate", lambda: saturates)
    assert word in run("doctor")[1]
    sums = json.loads(run("doctor", "--json")[1])["int8_sums"]
    assert sums == ("saturating" if saturates else "exact")


def test_limits_of_a_container_are_told(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("2000000000\n")
    monkeypatch.setattr(devices, "_CGROUP_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(doctor, "_CGROUP_MEMORY", tmp_path / "memory.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    found = examine()
    assert (found.processor_limit, found.memory_limit) == (1.5, 2_000_000_000)
    assert found.processors[1] == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no such mode")
def test_graphs_that_are_not_kept_are_told_with_the_reason(run, tmp_path, monkeypatch):
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "cache"))
    assert "not kept" not in run("doctor")[1]
    assert examine().graphs_not_kept is None
    (tmp_path / "cache/graphs").mkdir(parents=True)
    assert "not kept" not in run("doctor")[1]
    (tmp_path / "cache/graphs").chmod(0o777)
    assert (
        f"not kept ({tmp_path}/cache/graphs: others may write to it): each start"
        in run("doctor")[1]
    )
    monkeypatch.setenv("FIC_CACHE_DIR", "")
    assert "not kept (FIC_CACHE_DIR is empty" in run("doctor")[1]
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "file"))
    assert f"not kept ({tmp_path}/file" in run("doctor")[1]


@pytest.mark.parametrize("problem", [False, True])
def test_the_command_prints_what_was_found_and_exits_with_1_for_a_problem(healthy, problem, capsys):
    if problem:
        healthy["onnxruntime-gpu"] = "1"
    for arguments in (["doctor"], ["doctor", "--json"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == int(problem)
    text = capsys.readouterr().out
    *lines, last = text.splitlines()
    assert f"{CPU}: works" in lines
    assert any(line.startswith("PROBLEM: ") for line in lines) is problem
    assert bool(json.loads(last)["problems"]) is problem
