"""What compression of real feature maps saves and costs, through the cache itself.

    python benchmarks/cache_compression.py PHOTOS

The maps are those of MobileNet 0.75 with ImageNet weights on 160 of the photos, cut at two layers.
LZF, which the cache does not offer, is measured through h5py for comparison.
"""

import argparse
import io
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fic.bases import find_base
from fic.bases.models import build_base
from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.digests import digest_bytes
from fic.fingerprint import Fingerprint
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

LAYERS = ("conv_pw_13_relu", "conv_pw_11_relu")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=224, width=224),
    pixels=Pixels(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3),
)


def feature_maps(folder: Path, count: int) -> Iterator[np.ndarray]:
    paths = sorted(folder.glob("*/*.jpg"))
    random.Random(0).shuffle(paths)
    images = [load_image(path, PREPROCESSING.geometry) for path in paths[:count]]
    pixels = PREPROCESSING.pixels.apply(np.stack(images).astype(np.float32))
    for layer in LAYERS:
        cut = build_base(find_base("mobilenet_0.75"), layer=layer, pooling="none")
        yield cut.predict(pixels, verbose=0)


def through_cache(maps: np.ndarray, compression: Any) -> tuple[float, float, int]:
    """Return seconds to write and to read all maps in random order, and bytes on disk."""
    fingerprint = Fingerprint(
        base="mobilenet",
        weights="imagenet",
        tensor="layer",
        pooling=None,
        preprocessing=PREPROCESSING,
        dtype="float16" if maps.dtype == np.float16 else "float32",
        shape=maps.shape[1:],
    )
    keys = make_keys((digest_bytes(str(number).encode()), 0) for number in range(len(maps)))
    order = np.random.default_rng(0).permutation(len(maps))
    with (
        tempfile.TemporaryDirectory() as directory,
        BottleneckCache(directory, fingerprint, compression=compression) as cache,
    ):
        start = time.perf_counter()
        with cache.writer() as writer:
            writer.add(keys, maps)
        written = time.perf_counter()
        read = cache.read(cache.find(keys)[order])
        done = time.perf_counter()
        if not np.array_equal(read, maps[order].astype(np.float32)):
            raise SystemExit("a map came back changed")
        size = sum(path.stat().st_size for path in cache.folder.glob("shard-*"))
    return written - start, done - written, size


def through_lzf(maps: np.ndarray) -> tuple[float, float, int]:
    image = io.BytesIO()
    out = np.empty_like(maps)
    start = time.perf_counter()
    with h5py.File(image, "w") as file:
        chunks = (1, *maps.shape[1:])
        file.create_dataset("maps", data=maps, chunks=chunks, compression="lzf", shuffle=True)
    written = time.perf_counter()
    with h5py.File(image) as file:
        for index in np.random.default_rng(0).permutation(len(maps)):
            file["maps"].read_direct(out, np.s_[index], np.s_[index])
    return written - start, time.perf_counter() - written, len(image.getbuffer())


WAYS = {
    "none": lambda maps: through_cache(maps, "none"),
    "gzip": lambda maps: through_cache(maps, "gzip"),
    "lzf (h5py)": through_lzf,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("maps                          way          size  write MB/s   read MB/s   read ms/map")
    for maps in feature_maps(options.photos, options.images):
        for dtype in ("float32", "float16"):
            stored = maps.astype(dtype)
            runs: dict[str, list[tuple[float, float, int]]] = {way: [] for way in WAYS}
            for _ in range(options.repeats):
                for way, measure in WAYS.items():
                    runs[way].append(measure(stored))
            for way, results in runs.items():
                write, read, size = (
                    statistics.median(column) for column in zip(*results, strict=True)
                )
                mb = stored.nbytes / 1e6
                shape = "x".join(map(str, maps.shape[1:]))
                zeros = f"{(maps == 0).mean():.0%} zeros"
                print(
                    f"{shape:>9} {dtype} {zeros:>9}   {way:10} {size / stored.nbytes:6.2f}"
                    f" {mb / write:12.0f} {mb / read:11.0f} {1000 * read / len(maps):13.2f}"
                )


if __name__ == "__main__":
    main()
