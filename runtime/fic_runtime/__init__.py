"""Run image classifiers that fic exported: NumPy, ONNX Runtime and OpenCV, no training framework.

With a bundle that `fic export` wrote:

    from fic_runtime import Classifier
    Classifier("bundle").predict("photo.jpg").label
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import Classifier as Classifier
    from .errors import BundleError as BundleError
    from .errors import DeviceError as DeviceError
    from .errors import FicError as FicError
    from .errors import ImageError as ImageError
    from .explaining import Explanation as Explanation
    from .multi_classifier import MultiClassifier as MultiClassifier
    from .predictions import Prediction as Prediction
    from .predictions import Score as Score

    __version__: str

_HOME = {
    "BundleError": "errors",
    "Classifier": "classifier",
    "DeviceError": "errors",
    "Explanation": "explaining",
    "FicError": "errors",
    "ImageError": "errors",
    "MultiClassifier": "multi_classifier",
    "Prediction": "predictions",
    "Score": "predictions",
}

__all__ = [
    "BundleError",
    "Classifier",
    "DeviceError",
    "Explanation",
    "FicError",
    "ImageError",
    "MultiClassifier",
    "Prediction",
    "Score",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: ONNX Runtime and OpenCV cost 0.1 s and 50 MB that `--help` need not pay.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("fic-runtime")
        except PackageNotFoundError:
            return version("fic-runtime-gpu")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
