"""What the caches of these tests are for: a base of sixteen numbers, or of maps."""

from dataclasses import replace

from fic.fingerprint import Fingerprint
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

FINGERPRINT = Fingerprint(
    base="tiny",
    weights="0" * 32,
    tensor="output",
    pooling="avg",
    preprocessing=Preprocessing(geometry=Geometry(height=8, width=8), pixels=Pixels()),
    dtype="float32",
    shape=(16,),
)
MAPS = replace(FINGERPRINT, shape=(4, 4, 6))
