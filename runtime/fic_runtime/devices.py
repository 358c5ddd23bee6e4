"""Which execution providers ONNX Runtime shall use, and how many threads it may have."""

import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from .errors import DeviceError, Log

log: Log = Log(__name__)

Device = Literal["auto", "cpu", "cuda"]
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
MAX_THREADS = 1024  # ONNX Runtime starts them all: on two cores 20 000 took over ten minutes

# Each installs the same folder over the others.
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


class WantedProviders(NamedTuple):
    """The execution providers to ask for, best first.

    Attributes:
        providers: their names.
        strict: fail without them; else the CPU takes over.
    """

    providers: tuple[str, ...]
    strict: bool


def chosen_device() -> Device:
    """Return the device that FIC_DEVICE names, `auto` without it.

    Raises:
        DeviceError: it names none.
    """
    name = os.environ.get("FIC_DEVICE") or "auto"
    if name not in get_args(Device):
        raise DeviceError(f"FIC_DEVICE is {name!r}; set it to {', '.join(get_args(Device))}")
    return cast(Device, name)


def chosen_threads(threads: int | None) -> int:
    """Return how many threads one run has: those asked for, FIC_THREADS, or `usable_cpus`.

    Raises:
        DeviceError: FIC_THREADS is not such a number.
        TypeError: `threads` is not a whole number.
        ValueError: `threads` is out of range.
    """
    if threads is not None:
        try:
            threads = operator.index(threads)
        except TypeError:
            raise TypeError(
                f"threads is a whole number from 1 to {MAX_THREADS}; received {threads!r}"
            ) from None
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads is 1 to {MAX_THREADS}; received {threads}")
        return threads
    text = os.environ.get("FIC_THREADS")
    if not text:
        return usable_cpus()
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise DeviceError(f"FIC_THREADS is {text!r}; set it to a number from 1 to {MAX_THREADS}")
    return int(text)


def providers_for(
    device: Device | None,
    available: Sequence[str],
    *,
    providers: Sequence[str] | None = None,
    allow_fallback: bool = False,
) -> WantedProviders:
    """Return what to ask ONNX Runtime for.

    `auto` takes CUDA where this build of ONNX Runtime has it and the CPU otherwise. Whatever else
    is named, in `device`, FIC_DEVICE or `providers`, is taken at its word unless `allow_fallback`.

    Raises:
        DeviceError: this build of ONNX Runtime has not what was asked for.
        TypeError: `providers` is a text.
        ValueError: an unknown device.
    """
    if providers is not None:
        return _by_name(providers, available, allow_fallback=allow_fallback)
    if device is None:
        device = chosen_device()
    if device not in get_args(Device):
        raise ValueError(f"device is one of {', '.join(get_args(Device))}; received {device!r}")
    if device == "cpu" or (device == "auto" and CUDA not in available):
        return WantedProviders((CPU,), strict=True)
    if CUDA in available:
        return WantedProviders((CUDA, CPU), strict=device == "cuda" and not allow_fallback)
    reason = (
        "device 'cuda': this ONNX Runtime was built without CUDA; run "
        "`pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'`"
    )
    if not allow_fallback:
        raise DeviceError(f"{reason}{_overwritten()}")
    log.warning("%s; running on the CPU", reason)
    return WantedProviders((CPU,), strict=True)


def _by_name(
    providers: Sequence[str], available: Sequence[str], *, allow_fallback: bool
) -> WantedProviders:
    if isinstance(providers, str):
        raise TypeError(f"providers is a list of names; received {providers!r}")
    missing = [name for name in providers if name not in available]
    if not missing and providers:
        return WantedProviders(tuple(providers), strict=not allow_fallback)
    reason = (
        f"providers {', '.join(missing) or 'none'}: not in this ONNX Runtime, which has "
        f"{', '.join(available)}; install the build of onnxruntime that has them"
    )
    if not allow_fallback or not providers:
        raise DeviceError(f"{reason}{_overwritten()}")
    there = [name for name in providers if name in available] or [CPU]
    log.warning("%s; running on %s", reason, there[0])
    return WantedProviders(tuple(there), strict=False)


def _overwritten() -> str:
    """Return a hint where several builds of ONNX Runtime were installed over each other."""
    from importlib.metadata import PackageNotFoundError, version

    installed = []
    for name in ONNX_RUNTIMES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(installed) < 2:
        return ""
    return f" ({' and '.join(installed)} are installed over each other: see `fic-runtime doctor`)"


def usable_cpus() -> int:
    """Return how many processors this process may use: affinity and cgroup quota respected."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cgroup_cpus()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cgroup_cpus() -> float | None:
    """Return how many processors' time a container may use, None without a limit."""
    # cpu.max of cgroup v2: "<microseconds of CPU> <per microseconds>", or "max <period>".
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
