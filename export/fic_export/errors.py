"""Errors of the export, on the same root as the runtime's (`fic_runtime.errors`).

FicError
├── ConversionError      a Keras model cannot be expressed as an ONNX graph
├── OutputError          the place for the results holds something else (the runtime's own)
└── ParityError          the bundle does not do what the Keras models do; exit code 3
"""

from fic_runtime.errors import FicError as FicError
from fic_runtime.errors import OutputError as OutputError


class ConversionError(FicError):
    """A Keras model cannot be expressed as an ONNX graph."""


class ParityError(FicError):
    """The bundle does not do what the Keras models do."""

    exit_code = 3
