"""Errors of the export, on the same root as the runtime's (`fic_runtime.errors`).

FicError
├── ConversionError      a Keras model cannot be expressed as an ONNX graph
├── OutputError          results cannot be written, or something else is there (the runtime's)
├── ParityError          the bundle does not do what the Keras models do; exit code 3
├── SignatureError       a bundle is not what was signed; exit code 3 (the runtime's)
└── SigningError         signatures cannot be made or checked here: no library, no key (likewise)
"""

from fic_runtime.errors import FicError as FicError
from fic_runtime.errors import OutputError as OutputError
from fic_runtime.errors import SignatureError as SignatureError
from fic_runtime.errors import SigningError as SigningError
from fic_runtime.errors import one_line as one_line


class ConversionError(FicError):
    """A Keras model cannot be expressed as an ONNX graph."""


class ParityError(FicError):
    """The bundle does not do what the Keras models do."""

    exit_code = 3
