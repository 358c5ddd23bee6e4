"""Who reads pictures and makes their bottlenecks on the way: this process, or a cluster."""

from ..bases.opening import AnyBase
from ..bottlenecks.single_reading import Extraction, FirstReading
from ..data import Source
from ..options import CacheOptions
from .extraction import RayExtraction


def first_reading(base: AnyBase, source: Source, cache: CacheOptions, *, seed: int) -> FirstReading:
    """Return the reader of the pictures, which extracts what is far away, or elsewhere.

    Args:
        seed: of the split.

    Raises:
        ClusterError: the options ask for a cluster, and Ray is not installed.
    """
    extraction: Extraction | None = None
    if cache.ray is not None:
        extraction = RayExtraction(base, cache, source)
    return FirstReading(base, source, cache, seed=seed, extraction=extraction)
