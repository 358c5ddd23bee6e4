"""What this machine can do for a bundle, and what is wrong with it: `fic-runtime doctor`."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from ..devices import CPU, CUDA, ONNX_RUNTIMES, cgroup_cpus, usable_cpus
from ..errors import one_line
from ..graphs.cache import reason_not_kept
from ..graphs.int8_sums import int8_sums_saturate
from ..graphs.onnx_runtime import onnxruntime
from ..graphs.sessions import SessionOptions, new_session

# y = x + x for four float32 numbers, opset 13: enough to make a provider prove that it works.
_DOUBLE = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02'
    b"\x08\x04b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)

# Each of a group installs the same folder over the others.
_RIVALS = (
    ONNX_RUNTIMES,
    ("fic-runtime", "fic-runtime-gpu"),
    ("opencv-python-headless", "opencv-python", "opencv-contrib-python",
     "opencv-contrib-python-headless"),
)  # fmt: skip
_LIBRARIES = ("numpy", *chain.from_iterable(_RIVALS))
# Those that ONNX Runtime's kernels for the CPU are chosen by.
_FEATURES = frozenset(
    {"avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"}
    | {"asimd", "asimddp", "i8mm", "sve"}
)
_CPU_INFO = Path("/proc/cpuinfo")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class ProviderCheck:
    """Whether an execution provider of this ONNX Runtime did a sum, and if not, why not."""

    name: str
    usable: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What `examine` found.

    Attributes:
        system: operating system and machine.
        versions: of Python and of the libraries that are installed.
        processor: its name, if the system tells.
        features: what ONNX Runtime's kernels are chosen by, such as avx2.
        int8_sums: `exact`, or `saturating` where ONNX Runtime's quick kernels lose a part of the
            sums of int8 and fic-runtime takes slower ones.
        processors: how many there are, and how many this process may use.
        processor_limit: of the container, in processors; None where there is none.
        memory_limit: of the container, in bytes; None where there is none.
        graphs_not_kept: why optimised graphs are not kept, which makes each start slower; None
            where they are.
        providers: the execution providers, best first.
        problems: what should be put right, one sentence each.
    """

    system: str
    versions: dict[str, str]
    processor: str
    features: tuple[str, ...]
    int8_sums: Literal["exact", "saturating"]
    processors: tuple[int, int]
    processor_limit: float | None
    memory_limit: int | None
    graphs_not_kept: str | None
    providers: tuple[ProviderCheck, ...]
    problems: tuple[str, ...]


def examine() -> Examination:
    """Look at this machine; every provider has to do a sum."""
    versions = {"python": platform.python_version()}
    versions |= {name: found for name in _LIBRARIES if (found := _version(name))}
    providers = tuple(map(_try_provider, onnxruntime.get_available_providers()))
    processor, features = _processor()
    return Examination(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=versions,
        processor=processor,
        features=features,
        int8_sums="saturating" if int8_sums_saturate() else "exact",
        processors=(os.cpu_count() or 1, usable_cpus()),
        processor_limit=cgroup_cpus(),
        memory_limit=_memory_limit(),
        graphs_not_kept=reason_not_kept(),
        providers=providers,
        problems=tuple(_problems(versions, providers)),
    )


def runtime_version() -> str:
    """Return the version of fic-runtime, by whichever of its two distributions is installed."""
    return next(filter(None, map(_version, ("fic-runtime", "fic-runtime-gpu"))), "unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _try_provider(name: str) -> ProviderCheck:
    numbers = np.arange(4, dtype=np.float32)
    try:
        session = new_session(_DOUBLE, SessionOptions(providers=(name,), threads=1, alone=True))
        if session.get_providers()[0] != name:
            return ProviderCheck(name=name, usable=False, reason="ONNX Runtime left it out")
        (doubled,) = session.run(None, {"x": numbers})
    except Exception as error:  # onnxruntime's errors share no base class but this one
        return ProviderCheck(name=name, usable=False, reason=one_line(error))
    if not np.array_equal(doubled, 2 * numbers):
        return ProviderCheck(name=name, usable=False, reason=f"it says that 1 + 1 is {doubled[1]}")
    return ProviderCheck(name=name, usable=True)


def _problems(versions: dict[str, str], providers: tuple[ProviderCheck, ...]) -> Iterator[str]:
    for rivals in _RIVALS:
        installed = [name for name in rivals if name in versions]
        if len(installed) > 1:
            yield (
                f"{' and '.join(installed)} are installed over each other; run "
                f"`pip uninstall -y {' '.join(installed)}` and install one of them again"
            )
    checks = {check.name: check for check in providers}
    if not checks[CPU].usable:
        yield f"{CPU} does not work ({checks[CPU].reason}); install onnxruntime again"
    if not _NVIDIA_DRIVER.exists():
        return
    if CUDA not in checks:
        yield (
            "there is an NVIDIA driver, but this ONNX Runtime was built without CUDA; run "
            "`pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'`"
        )
    elif not checks[CUDA].usable:
        yield (
            f"{CUDA} does not work ({checks[CUDA].reason}); check that the driver is new enough "
            "for CUDA's version, and run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"
        )


def _processor() -> tuple[str, tuple[str, ...]]:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor(), ()
    pairs = [line.partition(":") for line in lines if ":" in line]
    fields = {name.strip().lower(): value.strip() for name, _, value in reversed(pairs)}
    flags = f"{fields.get('flags', '')} {fields.get('features', '')}".split()
    name = fields.get("model name") or fields.get("model") or platform.processor()
    return name, tuple(sorted(_FEATURES.intersection(flags)))


def _memory_limit() -> int | None:
    try:
        return int(_CGROUP_MEMORY.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is not a number
        return None
