"""Training on cached bottlenecks against training through the whole network.

    python benchmarks/cached_training.py PHOTOS [--base resnet50] [--images 200] [--epochs 6]

Both start at the files, with an empty cache, and train the same head on the same frozen base for
the same number of epochs. The network is trained by Keras's `fit`, fed by tf.data.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import tensorflow as tf
from measuring import in_turn, median_ratio, spread, wall_seconds, without_autotune

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import prepare
from fic.data import Dataset, Pictures, Source, read_pictures
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.progress import Silence
from fic.training.head import train_head
from fic.training.starting_head import starting_head
from fic_runtime.devices import usable_cpus
from fic_runtime.preprocessing import Preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default="resnet50")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    base = FrozenBase(
        BaseOptions(base_model=options.base, weights="none"),
        Path(tempfile.mkdtemp(prefix="fic-benchmark-")),
    )
    base.graph_file()  # converted once for all runs, like the download of the weights
    pictures = _some(options.photos, options.images)
    training = TrainingOptions(epochs=options.epochs, patience=0)
    figures = in_turn(
        options.rounds,
        cached=lambda: train_on_bottlenecks(base, pictures, training),
        network=lambda: train_through_network(base, pictures, training),
    )
    print(f"{options.base}, {options.images} photos, {options.epochs} epochs")
    print(f"cached         {spread(figures['cached'])} s")
    print(f"whole network  {spread(figures['network'])} s")
    print(f"network / cached  {median_ratio(figures['network'], figures['cached']):.2f}")


def train_on_bottlenecks(base: FrozenBase, pictures: Pictures, options: TrainingOptions) -> float:
    """Return the seconds of a training with an empty cache."""
    graph = base.graph_file()
    with tempfile.TemporaryDirectory() as fresh:
        own = FrozenBase(base.options, Path(fresh), fingerprint=base.fingerprint)
        own.folder.mkdir(parents=True)
        for name in ("base.onnx", "base.json"):
            (own.folder / name).write_bytes((graph.parent / name).read_bytes())

        def work() -> None:
            cache = CacheOptions(bottleneck_dir=Path(fresh))
            train, val, _ = prepare(pictures, own, cache, Silence())
            head = starting_head(train, own, options)
            train_head(head, train, val, options, Silence())

        return wall_seconds(work)


def train_through_network(base: FrozenBase, pictures: Pictures, options: TrainingOptions) -> float:
    """Return the seconds of a training that sends every picture through the base each epoch."""
    base.model.trainable = False
    image = keras.Input(base.model.input_shape[1:])
    classes = len(pictures.train.labels)
    outputs = keras.layers.Dense(classes, "softmax")(base.model(image, training=False))
    network = keras.Model(image, outputs)
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, val = (
        _batches(part, base.preprocessing, options.batch_size)
        for part in (pictures.train, pictures.val)
    )
    return wall_seconds(
        lambda: network.fit(
            train,
            validation_data=val,
            epochs=options.epochs,
            shuffle=False,  # what the whole network sees in which order costs no time
            verbose=0,
        )
    )


def _batches(part: Dataset, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    size = (preprocessing.geometry.height, preprocessing.geometry.width)

    def load(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return preprocessing.pixels.apply(tf.image.resize(image, size)), label

    return without_autotune(
        tf.data.Dataset.from_tensor_slices(([str(path) for path in part.paths], list(part.targets)))
        .map(load, num_parallel_calls=usable_cpus())
        .batch(batch_size)
        .prefetch(2)
    )


def _some(photos: Path, count: int) -> Pictures:
    pictures = read_pictures(
        Source(data=photos), memo=None, seed=0, on_error="fail", progress=Silence()
    )
    whole = len(pictures.train) + len(pictures.val)
    step = max(1, whole // count)
    return Pictures(
        train=pictures.train.subset(range(0, len(pictures.train), step)),
        val=pictures.val.subset(range(0, len(pictures.val), step)),
        digests=pictures.digests,
        skipped=[],
    )


if __name__ == "__main__":
    main()
