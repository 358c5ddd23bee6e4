"""Errors of the export, on the same root as the runtime's (`fic_runtime.errors`).

FicError
├── ConversionError      a Keras model cannot be expressed as an ONNX graph
├── OutputError          the place for the results holds something else
└── ParityError          the bundle does not do what the Keras models do; exit code 3
"""

from fic_runtime.errors import FicError


class ConversionError(FicError):
    """A Keras model cannot be expressed as an ONNX graph."""


class OutputError(FicError):
    """The place where results should go holds something that is not an earlier result."""


class ParityError(FicError):
    """The bundle does not do what the Keras models do."""

    exit_code = 3
