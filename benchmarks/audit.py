"""How much an audit finds of what was planted, and what it costs.

    python benchmarks/audit.py PHOTOS [--base efficientnet_lite0] [--rounds 3] [--seed 0] [--crops]
    python benchmarks/audit.py --generated 100000 [--width 1280] [--classes 20]

The first flips 5 % of the labels in a copy of the photos and plants 40 copies of pictures: exact,
half the size, JPEG quality 60, and mirrored; with --crops also ten whose sides are cut to 72 to
95 %. Other rounds and seeds draw others. The second searches neighbors and judges labels on
bottlenecks that are made up, for time and memory.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measuring import wall_seconds

from fic.data import Source
from fic.insight import audit
from fic.insight.findings import Audit
from fic.insight.label_errors import assign_folds, judge_labels
from fic.insight.neighbors import find_neighbors, unit_rows
from fic.options import BaseOptions, CacheOptions
from fic.progress import Silence

FLIPPED = 0.05
COPIES_OF_A_KIND = 10
KINDS = ("exact", "half", "quality 60", "mirrored")
CROPPED = "cropped"


@dataclass(frozen=True)
class Planted:
    """Pictures whose label was flipped, and pairs of a picture and its copy with their kind."""

    flips: set[Path]
    copies: list[tuple[Path, Path, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--base", default=BaseOptions.base_model)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--generated", type=int, metavar="COUNT")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    if options.generated is not None:
        measure_generated(options.generated, options.width, options.classes)
    elif options.photos is not None:
        kinds = (*KINDS, CROPPED) if options.crops else KINDS
        seeds = range(options.seed, options.seed + options.rounds)
        measure_planted(options.photos, options.base, seeds, kinds)
    else:
        parser.error("give PHOTOS or --generated COUNT")


def measure_planted(photos: Path, base: str, seeds: Sequence[int], kinds: Sequence[str]) -> None:
    """Audit copies of the photos, with other flips and copies in each round."""
    with tempfile.TemporaryDirectory() as work:
        cache = CacheOptions(bottleneck_dir=Path(work, "bottlenecks"))
        before = _pairs(_audit(photos, base, cache))
        for seed in seeds:
            flawed = Path(work, f"photos-{seed}")
            planted = plant(photos, flawed, kinds, seed=seed)
            found = _audit(flawed, base, cache)
            seconds = wall_seconds(lambda folder=flawed: _audit(folder, base, cache))
            print(f"seed {seed}: {_flips_found(found, planted)}")
            print(f"  {_copies_found(found, planted, kinds, before)}")
            print(f"  warm: {seconds:.2f} s for {len(found.suspects)} pictures")


def plant(photos: Path, out: Path, kinds: Sequence[str], *, seed: int) -> Planted:
    """Write a copy of the photos with wrong labels and copies of pictures."""
    random = np.random.default_rng(seed)
    files = sorted(photos.glob("*/*.jpg"))
    labels = sorted({file.parent.name for file in files})
    flipped = set(random.choice(len(files), round(FLIPPED * len(files)), replace=False).tolist())
    places = []
    for index, file in enumerate(files):
        others = [label for label in labels if label != file.parent.name]
        label = str(random.choice(others)) if index in flipped else file.parent.name
        (out / label).mkdir(parents=True, exist_ok=True)
        places.append(out / label / f"{file.parent.name}-{file.name}")
        shutil.copyfile(file, places[-1])
    rest = [index for index in range(len(files)) if index not in flipped]
    chosen = random.choice(rest, len(kinds) * COPIES_OF_A_KIND, replace=False).tolist()
    copies = []
    for number, index in enumerate(chosen):
        kind = kinds[number % len(kinds)]
        copies.append((places[index], _write_copy(places[index], kind, random), kind))
    return Planted({places[index] for index in flipped}, copies)


def _write_copy(file: Path, kind: str, random: np.random.Generator) -> Path:
    copy = file.with_name(f"copy-{file.name}")
    pixels = cv2.imread(str(file))
    if kind == "exact":
        shutil.copyfile(file, copy)
    elif kind == "half":
        half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(copy), half)
    elif kind == "quality 60":
        cv2.imwrite(str(copy), pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])
    elif kind == CROPPED:
        height, width = (round(side * random.uniform(0.72, 0.95)) for side in pixels.shape[:2])
        top = int(random.integers(pixels.shape[0] - height + 1))
        left = int(random.integers(pixels.shape[1] - width + 1))
        cv2.imwrite(str(copy), pixels[top : top + height, left : left + width])
    else:
        cv2.imwrite(str(copy), pixels[:, ::-1])
    return copy


def _audit(folder: Path, base: str, cache: CacheOptions) -> Audit:
    return audit(Source(data=folder), base=BaseOptions(base_model=base), cache=cache)


def _pairs(found: Audit) -> set[frozenset[str]]:
    """Return the pairs of duplicates by the names that `plant` gives the files."""
    groups = [[_name(path) for path in group.paths] for group in found.duplicates]
    return {frozenset((a, b)) for group in groups for a in group for b in group if a != b}


def _name(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def _flips_found(found: Audit, planted: Planted) -> str:
    ranked = [suspect.path for suspect in found.suspects]
    tenth = set(ranked[: len(ranked) // 10])
    marked = {suspect.path for suspect in found.likely_wrong}
    return (
        f"{len(tenth & planted.flips)} of {len(planted.flips)} flipped labels in the first 10 % "
        f"of suspects; {len(marked & planted.flips)} of {len(marked)} that are called likely "
        "wrong are flipped"
    )


def _copies_found(
    found: Audit, planted: Planted, kinds: Sequence[str], known: set[frozenset[str]]
) -> str:
    group_of = {path: i for i, group in enumerate(found.duplicates) for path in group.paths}
    counts = {kind: 0 for kind in kinds}
    for original, copy, kind in planted.copies:
        counts[kind] += group_of.get(original, -1) == group_of.get(copy, -2)
    # What the photos held before is no mistake of the audit, and a copy stands for its original.
    original_of = {copy: original for original, copy, _ in planted.copies}
    wrong = 0
    for group in found.duplicates:
        names = {original_of.get(path, path).name for path in group.paths}
        wrong += not {frozenset((a, b)) for a in names for b in names if a != b} <= known
    shown = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return (
        f"copies found, of {COPIES_OF_A_KIND} each: {shown}; {wrong} of {len(found.duplicates)} "
        "groups are false"
    )


def measure_generated(count: int, width: int, classes: int) -> None:
    """Print time and memory of what grows with the number of pictures."""
    random = np.random.default_rng(0)
    targets = np.arange(count) % classes
    centers = random.standard_normal((classes, width)).astype(np.float32)
    rows = random.standard_normal((count, width), np.float32)
    rows += centers[targets]
    print(f"{count} x {width} bottlenecks: {rows.nbytes / 2**20:.0f} MB; {_peak()}")
    unit = _timed("principal directions", lambda: unit_rows(rows))
    _timed("neighbors", lambda: find_neighbors(unit, 6))
    fold = assign_folds(targets, np.arange(count), 5)
    _timed("labels", lambda: judge_labels(unit, targets, fold, classes, Silence()))


def _timed(name: str, work: Callable[[], Any]) -> Any:
    started, own = time.perf_counter(), time.process_time()
    found = work()
    taken, cost = time.perf_counter() - started, time.process_time() - own
    print(f"{name:<22}{taken:7.1f} s, {cost:.1f} s of the processors; {_peak()}", flush=True)
    return found


def _peak() -> str:
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB"


if __name__ == "__main__":
    main()
