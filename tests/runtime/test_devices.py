"""Devices are taken strictly, and threads are counted as a container counts them."""

import os

import pytest

from fic_runtime import devices
from fic_runtime.devices import CPU, CUDA, providers_for, usable_cpus
from fic_runtime.errors import DeviceError


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
