"""Convert a Keras base and head into two ONNX graphs and prove that they agree.

With any two Keras models:

    from fic_export import export_bundle
    export_bundle(base, head, labels=labels, preprocessing=numbers, pictures=files, out="bundle")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import export_bundle as export_bundle
    from .bundle import export_head as export_head
    from .bundle.parity import Parity as Parity
    from .conversion import convert_base as convert_base
    from .conversion import convert_head as convert_head
    from .errors import ConversionError as ConversionError
    from .errors import OutputError as OutputError
    from .errors import ParityError as ParityError
    from .errors import SignatureError as SignatureError
    from .errors import SigningError as SigningError
    from .options import Bounds as Bounds
    from .quantization import Quantization as Quantization
    from .signing import verify_bundle as verify_bundle
    from .triton import export_triton as export_triton

_HOME = {
    "Bounds": "options",
    "ConversionError": "errors",
    "Parity": "bundle.parity",
    "Quantization": "quantization",
    "OutputError": "errors",
    "ParityError": "errors",
    "SignatureError": "errors",
    "SigningError": "errors",
    "convert_base": "conversion",
    "convert_head": "conversion",
    "export_bundle": "bundle",
    "export_head": "bundle",
    "export_triton": "triton",
    "verify_bundle": "signing",
}

__all__ = [
    "Bounds",
    "ConversionError",
    "OutputError",
    "Parity",
    "ParityError",
    "Quantization",
    "SignatureError",
    "SigningError",
    "convert_base",
    "convert_head",
    "export_bundle",
    "export_head",
    "export_triton",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the converter brings TensorFlow with it.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
