"""From pictures to bottlenecks: the only place where threads meet the base."""

from .cached import fill_cache as fill_cache
from .cached import prepare as prepare
