"""The gate of the export: files through Keras and files through the runtime must agree.

Both ways start at the files, so decoding, resizing, preprocessing and the two graphs are all in
the comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fic_runtime.classifier import Classifier
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Preprocessing

from .errors import ParityError

if TYPE_CHECKING:
    import keras

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a bundle must keep to be written.

    Attributes:
        max_difference: of any probability between Keras and the runtime.
        min_agreement: share of the pictures for which both name the same class.
    """

    max_difference: float = 1e-3
    min_agreement: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the bundle is from the Keras models, over real pictures.

    Attributes:
        pictures: how many were compared.
        largest_difference: of any probability.
        mean_difference: over all probabilities.
        top_1_agreement: share of the pictures for which both name the same class.
        worst_file: name of the picture with the largest difference.
    """

    pictures: int
    largest_difference: float
    mean_difference: float
    top_1_agreement: float
    worst_file: str

    def check(self, bounds: Bounds) -> None:
        """Refuse a bundle that is too far away.

        Raises:
            ParityError: a bound is not kept.
        """
        # A difference that is not a number keeps no bound.
        if not self.largest_difference <= bounds.max_difference:
            raise ParityError(
                f"the exported graphs differ from Keras by {self.largest_difference:.2g} on "
                f"{self.worst_file} (at most {bounds.max_difference:.2g} is allowed); nothing was "
                "written, try another base or report it with the name of this one"
            )
        if not self.top_1_agreement >= bounds.min_agreement:
            raise ParityError(
                f"the exported graphs name another class than Keras for "
                f"{1 - self.top_1_agreement:.2%} of {self.pictures} pictures (at least "
                f"{bounds.min_agreement:.2%} must agree); nothing was written, try another base or "
                "report it with the name of this one"
            )


def compare(
    bundle: Path,
    base: "keras.Model",
    head: "keras.Model",
    preprocessing: Preprocessing,
    pictures: Sequence[Path],
    *,
    progress: Callable[[int], None] | None = None,
) -> Parity:
    """Run the pictures through the bundle and through the Keras models.

    Raises:
        ImageError: a picture cannot be read.
    """
    differences: list[np.ndarray[Any, Any]] = []
    agreements = 0
    with Classifier(bundle, device="cpu") as classifier:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            expected = keras_probabilities(base, head, preprocessing, batch)
            found = np.stack([each.probabilities for each in classifier.predict_batch(batch)])
            differences.append(np.abs(found - expected))
            agreements += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            if progress is not None:
                progress(len(batch))
    difference = np.concatenate(differences)
    # NaN counts as the worst there is, not as the least.
    worst = np.where(np.isnan(difference), np.inf, difference).max(axis=1)
    return Parity(
        pictures=len(pictures),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        top_1_agreement=agreements / len(pictures),
        worst_file=pictures[int(worst.argmax())].name,
    )


def keras_probabilities(
    base: "keras.Model",
    head: "keras.Model",
    preprocessing: Preprocessing,
    pictures: Sequence[Path],
) -> np.ndarray[Any, Any]:
    """Return what the Keras models say of image files, shape (pictures, labels)."""
    pixels = np.stack([load_image(path, preprocessing.geometry) for path in pictures])
    inputs = preprocessing.pixels.apply(pixels.astype(np.float32))
    return np.asarray(head.predict_on_batch(base.predict_on_batch(inputs)))
