"""Devices are taken strictly, and threads are counted as a container counts them."""

import importlib.metadata
import os

import numpy as np
import pytest

from fic_runtime import devices
from fic_runtime.devices import (
    CPU,
    CUDA,
    MAX_THREADS,
    WantedProviders,
    chosen_threads,
    providers_for,
    usable_cpus,
)
from fic_runtime.errors import DeviceError

XNNPACK = "XnnpackExecutionProvider"


@pytest.fixture(autouse=True)
def no_defaults(monkeypatch):
    """Forget what the environment of the tests says."""
    for name in ("FIC_DEVICE", "FIC_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("device", "available", "providers"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        ("cpu", [CUDA, CPU], [CPU]),
        ("cuda", [CUDA, CPU], [CUDA, CPU]),
        ("auto", ["TensorrtExecutionProvider", CUDA, CPU], [CUDA, CPU]),
    ],
)
def test_device_becomes_providers(device, available, providers):
    assert providers_for(device, available).providers == tuple(providers)


def test_cuda_without_cuda_says_what_to_install():
    with pytest.raises(DeviceError, match=r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'"):
        providers_for("cuda", [CPU])


def test_unknown_device_is_a_slip():
    with pytest.raises(ValueError, match="device is one of auto, cpu, cuda; received 'gpu'"):
        providers_for("gpu", [CPU])


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("0 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense\n", 8),
        ("1 0\n", 8),
        ("", 8),
    ],
)
def test_quota_of_a_container_is_respected(quota, cpus, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(devices, "_CGROUP_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cpus() == cpus


def test_affinity_is_respected_where_there_is_no_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CGROUP_CPU_MAX", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert usable_cpus() == 3


def test_processors_are_counted_where_there_is_no_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CGROUP_CPU_MAX", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus() == 6


def test_the_device_of_the_environment_counts_unless_the_argument_says_another(monkeypatch):
    monkeypatch.setenv("FIC_DEVICE", "cuda")
    assert providers_for(None, [CUDA, CPU]) == WantedProviders((CUDA, CPU), strict=True)
    assert providers_for("cpu", [CUDA, CPU]).providers == (CPU,)
    with pytest.raises(DeviceError, match="device 'cuda': this ONNX Runtime was built without"):
        providers_for(None, [CPU])
    monkeypatch.delenv("FIC_DEVICE")
    assert providers_for(None, [CUDA, CPU]) == WantedProviders((CUDA, CPU), strict=False)


def test_the_threads_of_the_environment_count_unless_the_argument_says_another(monkeypatch):
    monkeypatch.setattr(devices, "usable_cpus", lambda: 5)
    monkeypatch.setenv("FIC_THREADS", "3")
    assert (chosen_threads(None), chosen_threads(2)) == (3, 2)
    monkeypatch.setenv("FIC_THREADS", "")
    assert chosen_threads(None) == 5


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", str(MAX_THREADS + 1)])
def test_threads_of_the_environment_that_are_no_number_are_an_error(text, monkeypatch):
    monkeypatch.setenv("FIC_THREADS", text)
    with pytest.raises(DeviceError, match=f"FIC_THREADS is '{text}'; set it to a number from 1"):
        chosen_threads(None)


def test_a_device_of_the_environment_that_is_none_is_an_error(monkeypatch):
    monkeypatch.setenv("FIC_DEVICE", "gpu")
    with pytest.raises(DeviceError, match="FIC_DEVICE is 'gpu'; set it to auto, cpu, cuda"):
        providers_for(None, [CPU])


@pytest.mark.parametrize(
    ("how", "providers"),
    [
        ({"device": "cuda"}, (CPU,)),
        ({"device": None, "providers": [CUDA]}, (CPU,)),
        ({"device": None, "providers": ["Magic", XNNPACK]}, (XNNPACK,)),
    ],
)
def test_a_fall_back_has_to_be_allowed_and_is_told(how, providers, caplog):
    available = [XNNPACK, CPU]
    with pytest.raises(DeviceError):
        providers_for(available=available, **how)
    with caplog.at_level("WARNING", logger="fic_runtime"):
        found = providers_for(available=available, allow_fallback=True, **how)
    assert found.providers == providers
    assert "running on" in caplog.text


def test_builds_of_onnx_runtime_over_each_other_are_named_where_cuda_is_missing(monkeypatch):
    versions = {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.30.0"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(DeviceError, match=r"onnxruntime 1\.31\.0 and onnxruntime-gpu 1\.30\.0 are"):
        providers_for("cuda", [CPU])
    del versions["onnxruntime"]
    with pytest.raises(DeviceError) as caught:
        providers_for("cuda", [CPU])
    assert "over each other" not in str(caught.value)


@pytest.mark.parametrize("threads", [2.0, "2", [1]])
def test_a_number_of_threads_that_is_not_whole_is_one_sentence(threads):
    with pytest.raises(TypeError, match="threads is a whole number from 1 to 1024; received"):
        chosen_threads(threads)


def test_whole_numbers_of_other_libraries_are_taken():
    assert chosen_threads(np.int64(2)) == 2
