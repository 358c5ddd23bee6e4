"""Which execution providers ONNX Runtime shall use, and how many threads it may have."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from .errors import DeviceError

Device = Literal["auto", "cpu", "cuda"]
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
MAX_THREADS = 1024  # ONNX Runtime starts them all: on two cores 20 000 took over ten minutes

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def providers_for(device: Device, available: Sequence[str]) -> list[str]:
    """Return the providers to ask for, best first.

    `auto` takes CUDA where this build of ONNX Runtime has it and the CPU otherwise.

    Raises:
        DeviceError: `cuda` where this build of ONNX Runtime has no CUDA.
        ValueError: an unknown device.
    """
    if device not in get_args(Device):
        raise ValueError(f"device is one of {', '.join(get_args(Device))}; received {device!r}")
    if device == "cpu" or (device == "auto" and CUDA not in available):
        return [CPU]
    if CUDA not in available:
        raise DeviceError(
            "device 'cuda': this ONNX Runtime was built without CUDA; run "
            "`pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'`"
        )
    return [CUDA, CPU]


def usable_cpus() -> int:
    """Return how many processors this process may use: affinity and cgroup quota respected."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cgroup_cpus()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cgroup_cpus() -> float | None:
    """Return how many processors' time a container may use, None where there is no limit."""
    # cpu.max of cgroup v2: "<microseconds of CPU> <per microseconds>", or "max <period>".
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
