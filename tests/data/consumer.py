# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What somebody writes who uses fic-runtime: every public name, and what its type is.

Checked and not run (`tests/test_types.py`). Each `type: ignore` stands at a mistake that a type
checker has to find: both report one that is not needed.
"""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
import numpy.typing as npt

import fic_runtime
from fic_runtime import (
    BundleError,
    Classifier,
    DeviceError,
    Explanation,
    FicError,
    ImageError,
    Prediction,
    Score,
)

FloatArray = npt.NDArray[np.float32]
assert_type(fic_runtime.__version__, str)


def pictures(folder: Path) -> Iterator[Path | bytes]:
    """Give pictures of several kinds, one by one."""
    yield folder / "photo.jpg"
    yield (folder / "photo.jpg").read_bytes()


def classify(folder: Path, pixels: npt.NDArray[np.uint8], link: PathLike[str]) -> list[Score]:
    """Use the classifier in every way that it has."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    with Classifier(folder, device=device, threads=2, channel_order="bgr") as classifier:
        assert_type(classifier, Classifier)
        assert_type(classifier.labels, tuple[str, ...])
        assert_type(classifier.provider, str)
        for image in ("photo.jpg", folder, b"", bytearray(), memoryview(b""), pixels, link):
            assert_type(classifier.predict(image), Prediction)
        assert_type(classifier.predict_batch(pictures(folder), 8), list[Prediction])
        assert_type(classifier.predict_batch([pixels, folder], batch_size=8), list[Prediction])
        bottlenecks = classifier.extract(pictures(folder), batch_size=4)
        assert_type(bottlenecks, FloatArray)
        assert_type(next(classifier.extract_stream(pictures(folder))), FloatArray)
        found = classifier.extract_stream(pictures(folder), on_error="yield")
        assert_type(next(found), FloatArray | ImageError)
        assert_type(classifier.probabilities(bottlenecks), FloatArray)
        assert_type(classifier.run(pixels[None]), tuple[FloatArray, FloatArray])
        classifier.predict(7)  # type: ignore[arg-type]
        classifier.predict()  # type: ignore[call-arg]
        classifier.predict_batch([7])  # type: ignore[list-item]
    Classifier("bundle", "cpu")  # type: ignore[call-arg]
    Classifier("bundle", device="tpu")  # type: ignore[arg-type]
    Classifier("bundle", channel_order="grb")  # type: ignore[arg-type]
    prediction = Classifier("bundle", providers=["CPUExecutionProvider"]).predict(pixels)
    assert_type(prediction.label, str)
    assert_type(prediction.index, int)
    assert_type(prediction.probability, float)
    assert_type(prediction.probabilities, FloatArray)
    assert_type(prediction.to_dict(), dict[str, Any])
    prediction.label = "another"  # type: ignore[misc]
    top = prediction.top(3)
    assert_type(top, list[Score])
    assert_type((top[0].label, top[0].index, top[0].probability), tuple[str, int, float])
    return top


def explain(classifier: Classifier, photo: Path) -> npt.NDArray[np.uint8]:
    """Look where the classifier looks."""
    explanation = classifier.explain(photo, "daisy")
    assert_type(explanation, Explanation)
    assert_type(explanation.heat, npt.NDArray[np.float32])
    assert_type(explanation.heat_over(480, 640), npt.NDArray[np.float32])
    classifier.explain(photo, 3)  # type: ignore[arg-type]
    return explanation.overlay(photo, opacity=0.5)


def survive(classifier: Classifier) -> int:
    """Handle every error that a user can fix."""
    try:
        classifier.predict("photo.jpg")
    except (ImageError, BundleError, DeviceError) as error:
        assert_type(error, ImageError | BundleError | DeviceError)
        return error.exit_code
    except FicError as error:
        return error.exit_code
    return 0
