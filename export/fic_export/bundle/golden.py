"""A few pictures with their recorded results, so that a device can be tested without a data set.

The pictures are drawn from a seed and not taken from the user's photos: a bundle goes to many
devices, and photos are private.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fic_runtime.bundle import GOLDEN_FILE
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.head_only import head_golden
from fic_runtime.bundle.manifest import read_manifest
from fic_runtime.classifier import Classifier
from fic_runtime.heads.out_of_distribution import read_out_of_distribution
from fic_runtime.images import load_image

from ..drawn_pictures import draw

_PICTURES = 3
_SEED = 20180601


def write_golden(path: Path, bundle: Path, *, with_pictures: bool = True) -> None:
    """Write `golden.npz` with the results of the bundle's own graphs on the CPU.

    `picture` holds the bytes of a PNG larger than the input, whose pixels after decode and resize
    are `images[0]`; `images` is uint8 (n, height, width, 3), `bottlenecks` and `probabilities`
    are float32. `ood_scores`, float32 (n,), are there where the bundle has a score.

    Args:
        path: the file.
        bundle: a whole bundle.
        with_pictures: write `picture` and `images`; a head alone does without them, since the
            bundle of its base has them.
    """
    # One thread: the order of the sums, and so the bytes, do not depend on the number of cores.
    with Classifier(bundle, device="cpu", threads=1, graph_cache=False) as classifier:
        geometry = classifier.manifest.preprocessing.geometry
        random = np.random.default_rng(_SEED)
        # Not a multiple of the input and of another shape, so that resizing has work to do.
        drawn = [draw(random, geometry.height + 57, geometry.width + 93) for _ in range(_PICTURES)]
        images = np.stack([load_image(picture, geometry) for picture in drawn])
        bottlenecks, probabilities = classifier.run(images)
    scores = _ood_scores(bundle, bottlenecks, probabilities)
    if not with_pictures:
        path.write_bytes(head_golden(bottlenecks, probabilities, **scores)[GOLDEN_FILE])
        return
    _, encoded = cv2.imencode(".png", drawn[0][..., ::-1])
    np.savez_compressed(
        path,
        picture=encoded.ravel(),
        images=images,
        bottlenecks=bottlenecks,
        probabilities=probabilities,
        **scores,  # type: ignore[arg-type] # names are keys
    )


def _ood_scores(
    bundle: Path, bottlenecks: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return what the bundle's score gives for golden results, by its name; nothing without one.

    Another program that reads bundles tells by it whether it computes the score rightly.

    Args:
        bundle: the folder; the scores are those of its head.
        bottlenecks: float32 (n, *bottleneck).
        probabilities: float32 (n, labels), what the head gave for them.
    """
    files = bundle_files(bundle)
    ood = read_out_of_distribution(files, read_manifest(files))
    if ood is None:
        return {}
    scores = ood.score(bottlenecks, probabilities)
    return {"ood_scores": scores.astype(np.float32)}
