"""The pretrained networks, and everything that depends on the release of Keras."""

from .table import BASES as BASES
from .table import Base as Base
from .table import find_base as find_base
