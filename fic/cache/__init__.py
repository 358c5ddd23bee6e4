"""The bottleneck cache on disk: keys and bytes, and no pictures."""

from .store import BottleneckCache as BottleneckCache
from .writer import CacheWriter as CacheWriter
