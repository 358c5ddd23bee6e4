"""The pretrained networks: all that changes when Keras does."""

from .table import BASES as BASES
from .table import Base as Base
from .table import find_base as find_base
