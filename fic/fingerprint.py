"""What a bottleneck depends on besides the picture: one folder of the cache for each."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Preprocessing

from .errors import CacheError

# Part of every fingerprint: a release that lays out shards differently uses other folders, so it
# and an older one can share a cache directory and neither takes the other's shards for damaged.
FORMAT = 1
LAST_LAYER = "output"
"""The `tensor` of a base that is cut at its own end."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Two bottlenecks of one picture are interchangeable if and only if these are equal.

    `weights` is the digest of the weights that were loaded, `tensor` the layer where the base is
    cut, `dtype` and `shape` those of one stored bottleneck.
    """

    base: str
    weights: str
    tensor: str
    pooling: str | None
    preprocessing: Preprocessing
    dtype: Literal["float32", "float16"]
    shape: tuple[int, ...]

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the canonical JSON of all fields and the format number."""
        values = {"format": FORMAT, **self.to_dict()}
        # All numbers as floats, so that a scale of 1 and one of 1.0 are the same scale.
        values = json.loads(json.dumps(values), parse_int=float)
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=32).hexdigest()

    @property
    def folder_name(self) -> str:
        """The name of this fingerprint's folder in a cache directory."""
        return f"{self.base}-{self.digest[:16]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values, as they stand in `fingerprint.json`."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """Read what `to_dict` wrote.

        Raises:
            CacheError: a field is missing, unknown or makes no sense.
        """
        try:
            fields = {
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "shape": tuple(int(side) for side in values["shape"]),
            }
            return cls(**fields)
        except (BundleError, KeyError, TypeError, ValueError) as error:
            raise CacheError(
                f"fingerprint: {error}; this cache is damaged or of another release of fic"
            ) from error
