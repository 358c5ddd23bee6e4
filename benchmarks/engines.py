"""Extraction by fic against `predict` of the same Keras model fed by tf.data.

    python benchmarks/engines.py PHOTOS [--base efficientnet_lite0] [--images 300] [--rounds 5]

Both start at the files and use batches of the same size. tf.data decodes, resizes and scales in
parallel and prefetches.
"""

import argparse
import tempfile
from pathlib import Path

import tensorflow as tf
from measuring import in_turn, median_ratio, some_photos, spread, wall_seconds, without_autotune

from fic.bases.frozen import FrozenBase
from fic.bottlenecks.engines import choose_engine
from fic.bottlenecks.extraction import Picture, extract
from fic.cache import BottleneckCache
from fic.digests import digest_file
from fic.options import BaseOptions
from fic_runtime.devices import usable_cpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default=BaseOptions.base_model)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    work = Path(tempfile.mkdtemp(prefix="fic-benchmark-"))
    base = FrozenBase(BaseOptions(base_model=options.base, weights="none"), work)
    geometry = base.preprocessing.geometry
    files = some_photos(options.photos, options.images)
    pictures = [Picture(file, digest_file(file), [0]) for file in files]
    chosen = choose_engine("auto", base)
    print(f"engine {chosen.engine.name}: {chosen.reason}")

    def load(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        image = tf.image.resize(image, (geometry.height, geometry.width))
        return base.preprocessing.pixels.apply(image)

    data = without_autotune(
        tf.data.Dataset.from_tensor_slices([str(file) for file in files])
        .map(load, num_parallel_calls=usable_cpus())
        .batch(options.batch_size)
        .prefetch(2)
    )

    def fic() -> float:
        with (
            tempfile.TemporaryDirectory(dir=work) as fresh,
            BottleneckCache(fresh, base.fingerprint) as cache,
        ):
            return len(files) / wall_seconds(
                lambda: extract(
                    pictures, cache, chosen.engine, geometry, batch_size=options.batch_size
                )
            )

    def keras_predict() -> float:
        return len(files) / wall_seconds(lambda: base.model.predict(data, verbose=0))

    fic(), keras_predict()  # traces, allocates, and warms the file cache
    figures = in_turn(options.rounds, fic=fic, keras=keras_predict)
    print(f"{options.base}, {len(files)} photos, batch {options.batch_size}")
    print(f"fic           {spread(figures['fic'])} photos/s")
    print(f"Keras predict {spread(figures['keras'])} photos/s")
    print(f"fic / Keras   {median_ratio(figures['fic'], figures['keras']):.2f}")


if __name__ == "__main__":
    main()
