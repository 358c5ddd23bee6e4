"""The gate of the export: files through Keras and files through the runtime must agree.

The base may be an ONNX file instead: then its part is done by that file as it was given.

Both ways start at the files, so decoding, resizing, preprocessing and the two graphs are all in
the comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.bundle.manifest import Known
from fic_runtime.classifier import Classifier
from fic_runtime.errors import ImageError
from fic_runtime.images import load_image

from ..errors import ParityError
from ..fits.out_of_distribution import least_validation, rejection_threshold
from ..fits.temperature import with_temperature
from ..options import KERAS, Bounds, KerasClassifier

_BATCH = 16
_WORST = 5


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the bundle is from what it was made of, over real pictures or drawn ones.

    Attributes:
        pictures: number of pictures compared.
        largest_difference: largest difference of any probability.
        mean_difference: mean difference over all probabilities.
        top_1_agreement: share of the pictures for which both name the same class.
        worst_files: names of the pictures with the largest differences, the largest first.
        keras_accuracy: share of the pictures whose class the reference names; None if it is not
            known.
        runtime_accuracy: likewise of the runtime.
        source: `files` that were given, or `drawn` where none were.
        reference: what the bundle was compared with: `Keras`, or the name of the base's own file,
            with the head in Keras.
    """

    pictures: int
    largest_difference: float
    mean_difference: float
    top_1_agreement: float
    worst_files: list[str]
    keras_accuracy: float | None = None
    runtime_accuracy: float | None = None
    source: str = "files"
    reference: str = KERAS

    def check(self, bounds: Bounds) -> None:
        """Refuse a bundle that is too far away.

        Raises:
            ParityError: a bound is not kept.
        """
        # A difference that is not a number keeps no bound.
        if not self.largest_difference <= bounds.max_difference:
            raise ParityError(
                f"the exported graphs differ from {self.reference} by "
                f"{self.largest_difference:.2g} on {', '.join(self.worst_files)} (at most "
                f"{bounds.max_difference:.2g} is allowed); nothing was written, try another base "
                "or report it with the name of this one"
            )
        if not self.top_1_agreement >= bounds.min_agreement:
            raise ParityError(
                f"the exported graphs name another class than {self.reference} for "
                f"{1 - self.top_1_agreement:.2%} of {self.pictures} pictures (at least "
                f"{bounds.min_agreement:.2%} must agree); nothing was written, try another base or "
                f"report it with the name of this one (worst: {', '.join(self.worst_files)})"
            )
        self._check_least(bounds.min_accuracy)

    def check_accuracy(self, max_drop: float, min_accuracy: float | None = None) -> None:
        """Refuse a bundle on a quantized base, which differs anyway, only if it loses too much.

        Args:
            max_drop: accuracy that the bundle may lose against the reference; where the classes
                are not known, share of the pictures for which it may name another one.
            min_accuracy: share of the pictures whose class it must name.

        Raises:
            ParityError: a bound is not kept.
        """
        drop = 1 - self.top_1_agreement
        if self.keras_accuracy is not None and self.runtime_accuracy is not None:
            drop = self.keras_accuracy - self.runtime_accuracy
        # Shares of few pictures are not exact in binary: 0.9 - 0.89 is a little more than 0.01.
        if not (np.isfinite(self.largest_difference) and drop <= max_drop + 1e-9):
            raise ParityError(
                f"on the quantized base the classifier loses {drop:.2%} of {self.pictures} "
                f"pictures (at most {max_drop:.2%} may be lost); nothing was written, allow a "
                "larger --max-accuracy-drop or deploy a base that is not quantized"
            )
        self._check_least(min_accuracy)

    def _check_least(self, min_accuracy: float | None) -> None:
        if min_accuracy is None:
            return
        if self.runtime_accuracy is None or not self.runtime_accuracy >= min_accuracy:
            found = "not known" if self.runtime_accuracy is None else f"{self.runtime_accuracy:.2%}"
            raise ParityError(
                f"the accuracy of the exported graphs on {self.pictures} pictures is {found} (at "
                f"least {min_accuracy:.2%} is asked for); nothing was written, train a better "
                "classifier or ask for less"
            )


def compare(
    bundle: Path,
    classifier: KerasClassifier,
    pictures: Sequence[Path],
    *,
    targets: Sequence[int] | None = None,
    temperature: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Parity:
    """Run the pictures through the bundle and through the Keras models.

    Args:
        bundle: a whole bundle.
        classifier: the models that it was made of.
        pictures: image files.
        targets: for each picture the index of its label, if that is known.
        temperature: what the bundle's head divides its logits by, and Keras's does not.
        progress: called with the number of pictures just compared.

    Raises:
        ImageError: a picture cannot be read.
    """
    ours: list[NDArray[Any]] = []
    theirs: list[NDArray[Any]] = []
    with Classifier(bundle, device="cpu", graph_cache=False) as exported:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            answers = keras_probabilities(classifier, batch)
            theirs.append(with_temperature(answers, temperature))
            # The pictures were read just now: what has no answer has none that is finite.
            answered = exported.stream(batch, on_error="yield")
            missing = np.full(len(answers[0]), np.nan, np.float32)
            ours += [
                missing if isinstance(answer, ImageError) else answer.probabilities
                for answer in answered
            ]
            if progress is not None:
                progress(len(batch))
    found, expected = np.stack(ours), np.concatenate(theirs)
    difference = np.abs(found - expected)
    # NaN counts as the worst there is, not as the least.
    worst = np.where(np.isnan(difference), np.inf, difference).max(axis=1)
    named, wanted = found.argmax(axis=1), expected.argmax(axis=1)
    return Parity(
        pictures=len(pictures),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        top_1_agreement=float((named == wanted).mean()),
        worst_files=[pictures[i].name for i in np.argsort(-worst, kind="stable")[:_WORST]],
        keras_accuracy=None if targets is None else float((wanted == np.asarray(targets)).mean()),
        runtime_accuracy=None if targets is None else float((named == np.asarray(targets)).mean()),
        reference=classifier.reference,
    )


def keras_probabilities(classifier: KerasClassifier, pictures: Sequence[Path]) -> NDArray[Any]:
    """Return what the Keras models say of image files, shape (pictures, labels)."""
    preprocessing = classifier.preprocessing
    pixels = np.stack([load_image(path, preprocessing.geometry) for path in pictures])
    base: Any = classifier.base
    if hasattr(base, "bottlenecks"):
        # In a way of its own from the pixels on: the arithmetic of the graph is compared, too.
        bottlenecks = base.bottlenecks(pixels)
    else:
        inputs = preprocessing.pixels.apply(pixels.astype(np.float32))
        bottlenecks = base.predict_on_batch(inputs)
    return np.asarray(classifier.head.predict_on_batch(bottlenecks))


def threshold_on_graphs(folder: Path, known: Known, pictures: Sequence[Path]) -> Known:
    """Return the entry of a score with the threshold that it has on a bundle's own graphs.

    Those of a quantized base give other bottlenecks than those that the score was fitted on.

    Args:
        folder: the bundle, whole.
        known: its entry as it was fitted; it stays as it is where there are too few pictures.
        pictures: image files of the classes that nothing was fitted on.

    Raises:
        ImageError: one of them cannot be read.
    """
    if len(pictures) < least_validation(known.false_rejection):
        return known
    with Classifier(folder, device="cpu", graph_cache=False) as classifier:
        answers = classifier.predict_batch(pictures)
    scores = np.array([answer.ood_score for answer in answers], np.float64)
    return replace(
        known,
        threshold=rejection_threshold(scores, known.false_rejection),
        figures={**known.figures, "threshold_pictures": len(pictures)},
    )
