"""Extraction on many machines, by Ray: the driver lists pictures, nodes read and extract them."""

from .extraction import RayExtraction as RayExtraction
from .reading import first_reading as first_reading
