"""The bottleneck cache on disk: keys and bytes. It does not know pictures."""

from .store import BottleneckCache as BottleneckCache
from .writer import CacheWriter as CacheWriter
