"""A base in fewer bits, if it keeps its accuracy."""

from ..options import MAX_ACCURACY_DROP as MAX_ACCURACY_DROP
from ..options import Scheme as Scheme
from .gate import Quantization as Quantization
from .gate import quantize_base as quantize_base
