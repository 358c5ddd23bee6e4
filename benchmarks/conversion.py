"""How long does it take to make an ONNX graph of a base?

    python benchmarks/conversion.py [--base NAME ...] [--rounds 3]

Each base is built with random weights at its own size, in a process of its own, and converted as
`fic export` does it, the check by onnx.checker and the serialisation included. The first round of a
process also loads the converter; the median of the later ones is given beside it. Peak memory is
that of the whole process, TensorFlow and the Keras model included.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from typing import Any

from measuring import spread, wall_seconds

# One of each family, the cheapest first.
_BASES = (
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "resnet50",
    "densenet121",
    "inception_v3",
    "convnext_tiny",
    "nasnet_mobile",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", nargs="+", default=list(_BASES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.one:
        print(json.dumps(_measure(options.one, options.rounds)))
        return
    print("| | parameters | first, s | again, s | graph, MB | peak memory, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in options.base:
        command = [sys.executable, __file__, "--one", name, "--rounds", str(options.rounds)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(result.stdout.splitlines()[-1])
        again = spread(row["again"]) if row["again"] else "-"
        print(
            f"| `{name}` | {row['parameters'] / 1e6:.1f} M | {row['first']:.1f} | {again} | "
            f"{row['bytes'] / 1e6:.1f} | {row['peak']:.0f} |",
            flush=True,
        )


def _measure(name: str, rounds: int) -> dict[str, Any]:
    from fic.bases import find_base
    from fic.bases.models import build_base
    from fic_export.conversion import convert_base

    base = find_base(name)
    model = build_base(base, weights="none")
    preprocessing = base.preprocessing(size=base.size)
    sizes = []

    def convert() -> None:
        sizes.append(len(convert_base(model, preprocessing).SerializeToString()))

    first, *again = [wall_seconds(convert) for _ in range(rounds)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "parameters": model.count_params(),
        "first": first,
        "again": again,
        "bytes": statistics.median(sizes),
        "peak": peak / (2**20 if platform.system() == "Darwin" else 2**10),
    }


if __name__ == "__main__":
    main()
