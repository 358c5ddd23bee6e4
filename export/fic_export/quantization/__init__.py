"""A base in fewer bits, if it keeps its accuracy."""

from .gate import MAX_ACCURACY_DROP as MAX_ACCURACY_DROP
from .gate import Quantization as Quantization
from .gate import Scheme as Scheme
from .gate import quantize_base as quantize_base
