"""The versions that made a run or a bundle, for whoever must find out later why one differs."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = ("fic-runtime", "keras", "tf2onnx", "onnx", "numpy")
# These come in several distributions, so the module is asked.
_MODULES = ("onnxruntime", "cv2")
# Neither is TensorFlow asked, whose import takes longer than a training, if one of these is there.
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel")


def made_with() -> dict[str, str]:
    """Return the versions of fic's runtime and of the libraries that decide a result."""
    return {
        **{name: version(name) for name in _DISTRIBUTIONS},
        "tensorflow": _tensorflow(),
        **{name: str(import_module(name).__version__) for name in _MODULES},
    }


def _tensorflow() -> str:
    for name in _TENSORFLOW:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return str(import_module("tensorflow").__version__)
