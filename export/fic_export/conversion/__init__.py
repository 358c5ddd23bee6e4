"""From Keras models to ONNX graphs."""

from .keras_to_onnx import convert_base as convert_base
from .keras_to_onnx import convert_head as convert_head
