"""Train on a folder of photos, export, and classify with the bundle, all from Python.

    python examples/train_export_predict.py PHOTOS OUT [BASE] [WEIGHTS]

PHOTOS has one sub-folder per class. OUT gets the cache, the run and the bundle.
"""

import sys
from pathlib import Path

from fic import BaseOptions, CacheOptions, Source, export_run, train
from fic_runtime import Classifier


def main(
    photos: Path, out: Path, base: str = "efficientnet_lite0", weights: str = "imagenet"
) -> None:
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
    if len(sys.argv) not in (3, 4, 5):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
