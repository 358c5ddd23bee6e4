"""Extraction throughput as a share of what the machine could do at best.

    python benchmarks/extraction.py PHOTOS [--base efficientnet_lite0] [--images 500] [--rounds 5]

The ceiling is the machine's own: processors / (processor time to decode and resize a picture + that
to run the base on it), each part measured alone with all processors busy. The base's part is taken
with the cheaper of two ways to use the processors: one pass on all of them, or one pass on each.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measuring import (
    cpu_seconds_at_full_load,
    in_turn,
    median_ratio,
    some_photos,
    spread,
    wall_seconds,
)

from fic.bases.frozen import FrozenBase
from fic.bottlenecks.cached import BottleneckCache
from fic.bottlenecks.engines import OnnxEngine
from fic.bottlenecks.extraction import Picture, extract
from fic.digests import digest_file
from fic.options import BaseOptions, CacheOptions
from fic_runtime.devices import usable_cpus
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default=BaseOptions.base_model)
    parser.add_argument("--weights", default="none")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=CacheOptions.batch_size)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    work = Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    base = FrozenBase(BaseOptions(base_model=options.base, weights=options.weights), work)
    geometry = base.preprocessing.geometry
    files = some_photos(options.photos, options.images)
    pictures = [Picture(file, digest_file(file), [0]) for file in files]
    cpus = usable_cpus()
    engine = OnnxEngine(base.graph_file())
    whole = Graph(base.graph_file(), device="cpu", threads=cpus)
    batch = np.stack([load_image(file, geometry) for file in files[: options.batch_size]])
    batches = [batch] * (len(files) // len(batch))
    engine.run(batch), whole.run(batch)  # the first pass allocates

    def decode() -> float:
        return cpu_seconds_at_full_load(lambda f: load_image(f, geometry), files, cpus) / len(files)

    def run_base() -> float:
        per_image = len(batches) * len(batch)
        side_by_side = cpu_seconds_at_full_load(engine.run, batches, engine.passes)
        together = cpu_seconds_at_full_load(whole.run, batches, 1)
        return min(side_by_side, together) / per_image

    def fic() -> float:
        with (
            tempfile.TemporaryDirectory(dir=work) as fresh,
            BottleneckCache(fresh, base.fingerprint) as cache,
        ):
            seconds = wall_seconds(
                lambda: extract(pictures, cache, engine, geometry, batch_size=options.batch_size)
            )
        return len(files) / seconds

    figures = in_turn(options.rounds, decode=decode, base=run_base, fic=fic)
    ceiling = [cpus / (d + b) for d, b in zip(figures["decode"], figures["base"], strict=True)]
    print(f"{options.base}, {len(files)} photos, {cpus} processors, batch {options.batch_size}")
    print(f"decode and resize  {spread([1e3 * s for s in figures['decode']])} ms a photo")
    print(f"base               {spread([1e3 * s for s in figures['base']])} ms a photo")
    print(f"ceiling            {spread(ceiling)} photos/s")
    print(f"fic                {spread(figures['fic'])} photos/s")
    print(f"fic / ceiling      {median_ratio(figures['fic'], ceiling):.3f}")


if __name__ == "__main__":
    main()
