"""Fingerprints: all that a bottleneck depends on besides the picture and its view."""

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Preprocessing

from .errors import CacheError, one_line

# Part of every fingerprint: a release that lays out shards differently uses other folders, so it
# and an older one can share a cache directory and neither takes the other's shards for damaged.
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_SIDES = 8
_MOST_VALUES = 1 << 28  # of one bottleneck; the largest map of any base has some millions
_DTYPE = Literal["float32", "float16"]

LAST_LAYER = "output"
"""The `tensor` of a base that is cut at its own end."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Base, weights, cut and preprocessing of bottlenecks; equal ones are interchangeable.

    `weights` is the digest of the weights that were loaded, `tensor` the layer where the base is
    cut, `dtype` and `shape` those of one stored bottleneck.
    """

    base: str
    weights: str
    tensor: str
    pooling: str | None
    preprocessing: Preprocessing
    dtype: _DTYPE
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
                "shape": bottleneck_shape(values["shape"]),
            }
            found = cls(**fields)
            found._check()
            return found
        except (BundleError, KeyError, TypeError, ValueError) as error:
            raise CacheError(
                f"fingerprint: {one_line(error)}; this cache is damaged or of another release of "
                "fic"
            ) from error

    def _check(self) -> None:
        """Raise ValueError for values that `to_dict` does not write; anybody may have written them.

        The name of a folder is made of the base's, and memory is laid out as type and shape say.
        """
        if not (isinstance(self.base, str) and _NAME.fullmatch(self.base)):
            raise ValueError(f"{reprlib.repr(self.base)} cannot be the name of a base")
        if self.dtype not in get_args(_DTYPE):
            raise ValueError(f"{reprlib.repr(self.dtype)} is not a type of bottlenecks")
        for text in (self.weights, self.tensor, self.pooling or ""):
            if not isinstance(text, str):
                raise ValueError(f"{reprlib.repr(text)} is not a text")


def bottleneck_shape(shape: object) -> tuple[int, ...]:
    """Return the shape of a bottleneck that was read from a file.

    Raises:
        ValueError: no bottleneck has this shape.
    """
    if not isinstance(shape, list | tuple) or not 1 <= len(shape) <= _MOST_SIDES:
        raise ValueError(f"{reprlib.repr(shape)} is not the shape of a bottleneck")
    if not all(type(side) is int and side >= 1 for side in shape):
        raise ValueError(f"{reprlib.repr(shape)} is not the shape of a bottleneck")
    if math.prod(shape) > _MOST_VALUES:
        raise ValueError(f"a bottleneck of {reprlib.repr(shape)} is too large")
    return tuple(shape)
