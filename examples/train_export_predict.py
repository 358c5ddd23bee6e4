"""Train on a folder of photos, export, and classify with the bundle, all from Python.

    python examples/train_export_predict.py PHOTOS OUT [BASE] [WEIGHTS]

PHOTOS has one sub-folder per class. OUT gets the cache, the run and the bundle.
"""

import argparse
from pathlib import Path

from fic import BaseOptions, CacheOptions, Source, export_run, train
from fic_runtime import Classifier


def main(photos: Path, out: Path, base: str, weights: str) -> None:
    """Do the whole way and print what each step gives."""
    run = train(
        Source(data=photos),
        out=out / "run",
        base=BaseOptions(base_model=base, weights=weights),
        cache=CacheOptions(bottleneck_dir=out / "bottlenecks"),
    )
    print(f"validation accuracy {run.metrics['val']['accuracy']:.3f}")

    manifest = export_run(out / "run", out=out / "bundle")
    print(f"largest difference to Keras {manifest.parity['largest_difference']:.1e}")

    with Classifier(out / "bundle") as classifier:
        picture = run.validation()[0]
        prediction = classifier.predict(picture.path)
        print(f"{picture.path.name} is {picture.label}, taken for {prediction.label}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder with one sub-folder of photos per class")
    parser.add_argument("out", type=Path, help="folder for the cache, the run and the bundle")
    parser.add_argument("base", nargs="?", default=BaseOptions.base_model)
    parser.add_argument("weights", nargs="?", default=BaseOptions.weights)
    main(**vars(parser.parse_args()))
