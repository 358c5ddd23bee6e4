"""Several heads on one base against as many classifiers, and what one more head costs.

    python benchmarks/many_heads.py BUNDLE PHOTOS [--heads 2 5] [--images 100] [--threads 1]

Every head is a head-only bundle made of BUNDLE's own head. All start at the files, one picture at a
time, on the CPU.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measuring import in_turn, median_ratio, some_photos, spread, wall_seconds

from fic_runtime import Classifier, MultiClassifier
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.head_only import files_of_the_head, head_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 5])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="for one prediction (default: all)")
    options = parser.parse_args()

    files = some_photos(options.photos, options.images)
    with tempfile.TemporaryDirectory(prefix="fic-benchmark-") as work:
        heads = [write_head(options.bundle, Path(work) / f"head{n}") for n in range(20)]
        print(f"a head: {size(heads[0])} bytes, the whole bundle: {size(options.bundle)} bytes")
        with Classifier(options.bundle, device="cpu") as classifier:
            swaps = [wall_seconds(partial(classifier.swap_head, head)) for head in heads]
        print(f"swap_head: {statistics.median(swaps) * 1000:.2f} ms (median of {len(swaps)})")
        for count in options.heads:
            compare(heads[:count], files, options)


def compare(heads: list[Path], files: list[Path], options: argparse.Namespace) -> None:
    """Print milliseconds a picture of both ways, and of one classifier alone."""
    bundle, threads = options.bundle, options.threads
    together = MultiClassifier(bundle, heads, device="cpu", threads=threads)
    apart = [Classifier(bundle, head=head, device="cpu", threads=threads) for head in heads]

    def milliseconds(work: Callable[[Path], object]) -> float:
        return wall_seconds(lambda: [work(file) for file in files]) / len(files) * 1000

    sides = {
        "one base": lambda: milliseconds(together.predict),
        "classifiers": lambda: milliseconds(lambda file: [alone.predict(file) for alone in apart]),
        "one classifier": lambda: milliseconds(apart[0].predict),
    }
    for side in sides.values():
        side()  # allocates, and warms the file cache
    figures = in_turn(options.rounds, **sides)
    print(f"{len(heads)} heads, {len(files)} photos")
    for name, values in figures.items():
        print(f"{name:<14} {spread(values)} ms a picture")
    saved = median_ratio(figures["classifiers"], figures["one base"])
    print(f"classifiers / one base     {saved:.2f}")
    alone = median_ratio(figures["one base"], figures["one classifier"])
    print(f"one base / one classifier  {alone:.2f}")


def write_head(bundle: Path, folder: Path) -> Path:
    """Write the head of a bundle as one of its own."""
    whole = open_bundle(bundle)
    folder.mkdir()
    for name, data in head_files(whole.manifest, files_of_the_head(whole)).items():
        (folder / name).write_bytes(data)
    return folder


def size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
