"""The versions that made a run or a bundle, for whoever must find out later why one differs."""

from importlib import import_module
from importlib.metadata import version

_DISTRIBUTIONS = ("fic-runtime", "keras", "tf2onnx", "onnx", "numpy")
# These come in several distributions, so the module is asked.
_MODULES = ("tensorflow", "onnxruntime", "cv2")


def made_with() -> dict[str, str]:
    """Return the versions of fic's runtime and of the libraries that decide a result."""
    return {name: version(name) for name in _DISTRIBUTIONS} | {
        name: str(import_module(name).__version__) for name in _MODULES
    }
