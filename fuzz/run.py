"""Fuzz targets with atheris, one after the other: python fuzz/run.py [TARGET ...] [--seconds 60]

Coverage of the runtime's code steers it from valid inputs to damaged ones. Where atheris is not
installed (it has wheels for some Pythons on Linux only) it says so and all is well.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from types import FunctionType

from targets import TARGETS, seeds

_MEGABYTES = 3000
_OWN = {"fic", "fic_export", "fic_runtime", "zipfile"}
# HDF5 itself reads some damaged files without an end, which no reader of ours can mend.
_BY_NAME = {"dense_head", "shard", "weights"}
_SECONDS_FOR_ONE = 60  # an input that takes as long hangs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="random seed of the damage; 0 for another each time (default: 0)",
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.targets or [name for name in TARGETS if name not in _BY_NAME]
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown target {', '.join(unknown)}; give some of {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        print("nothing is fuzzed: atheris is not installed, or has no wheel for this Python")
        return 0
    if options.alone:
        fuzz(names[0], options.seconds, options.seed)
    for name in names:
        print(f"# {name}, {options.seconds} seconds", flush=True)
        limits = ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        command = [sys.executable, __file__, name, *limits, "--alone"]
        # What OpenCV has to say of damaged pictures would hide what matters.
        quiet = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT"}
        if subprocess.run(command, env=quiet).returncode:
            print(f"{name} failed; the input is in the file that is named above", file=sys.stderr)
            return 1
    return 0


def own_functions() -> Iterator[FunctionType]:
    """Yield the functions of the project that are loaded: those of all libraries take a minute."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _OWN:
            continue
        for holder in (module, *filter(isclass, vars(module).values())):
            for each in vars(holder).values():
                function = getattr(each, "__func__", each)  # of class methods and static ones
                if isinstance(function, FunctionType) and function.__module__ == name:
                    yield function


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Fuzz one target and exit; atheris has the process for itself."""
    import atheris

    found = Path(".fuzz")
    found.mkdir(exist_ok=True)
    corpus = Path(tempfile.mkdtemp(prefix="fic-fuzz-"))
    for number, valid in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(valid)
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-rss_limit_mb={_MEGABYTES}",
        f"-timeout={_SECONDS_FOR_ONE}",
        f"-artifact_prefix={found}/{name}-",
        "-max_len=40000",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    for function in own_functions():
        atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], *flags, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
