"""Train an image classifier in seconds on cached bottlenecks and ship it without TensorFlow.

The command is `fic`; from Python:

    from fic import Source, train
    run = train(Source(data=Path("photos")), out=Path("run"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bases import BASES as BASES
    from .data import Source as Source
    from .errors import FicError as FicError
    from .exporting import export_run as export_run
    from .insight import audit as audit
    from .insight import report as report
    from .options import BaseOptions as BaseOptions
    from .options import CacheOptions as CacheOptions
    from .options import ExportOptions as ExportOptions
    from .options import TrainingOptions as TrainingOptions
    from .runs import Run as Run
    from .training import train as train

    __version__: str

_HOME = {
    "BASES": "bases",
    "BaseOptions": "options",
    "CacheOptions": "options",
    "ExportOptions": "options",
    "FicError": "errors",
    "Run": "runs",
    "Source": "data",
    "TrainingOptions": "options",
    "audit": "insight",
    "export_run": "exporting",
    "report": "insight",
    "train": "training",
}

__all__ = [
    "BASES",
    "BaseOptions",
    "CacheOptions",
    "ExportOptions",
    "FicError",
    "Run",
    "Source",
    "TrainingOptions",
    "audit",
    "export_run",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: TensorFlow alone costs seconds that `fic --help` need not pay.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("fast-image-classification")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
