"""Prove that a bundle gives on this device what it gave where it was exported."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from .bundle import GOLDEN_FILE
from .bundle_files import BundleFiles, bundle_files
from .classifier import Classifier
from .devices import Device
from .errors import BundleError, ImageError
from .images import load_image
from .manifest import Manifest

# Devices and builds differ in the order of their sums. A wrong kernel is off by far more.
TOLERANCE = 1e-3
# A decoder may round a pixel the other way, and resizing may spread that by one more level.
PIXEL_TOLERANCE = 2


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """How far this device is from the recorded outputs.

    `pixels` is the largest difference in grey levels after decode and resize, `bottlenecks` the
    largest difference relative to the largest bottleneck, `probabilities` the largest absolute
    difference.
    """

    provider: str
    pictures: int
    pixels: int
    bottlenecks: float
    probabilities: float

    @property
    def passed(self) -> bool:
        """Whether all three differences are within their tolerance."""
        return (
            self.pixels <= PIXEL_TOLERANCE
            and self.bottlenecks <= TOLERANCE
            and self.probabilities <= TOLERANCE
        )


def run_selftest(
    bundle: str | Path, *, device: Device = "auto", threads: int | None = None
) -> SelfTest:
    """Run the bundle's golden pictures and compare with the outputs recorded at export.

    Raises:
        BundleError: the bundle, or its `golden.npz`, cannot be used.
        DeviceError: the device that was asked for cannot be used here.
    """
    with Classifier(bundle, device=device, threads=threads) as classifier:
        golden = _read_golden(bundle_files(Path(bundle)), classifier.manifest)
        bottlenecks, probabilities = classifier.run(golden.images)
        return SelfTest(
            provider=classifier.provider,
            pictures=len(golden.images),
            pixels=int(np.abs(golden.decoded.astype(int) - golden.images[0]).max()),
            bottlenecks=_relative_difference(bottlenecks, golden.bottlenecks),
            probabilities=float(np.abs(probabilities - golden.probabilities).max()),
        )


@dataclass(frozen=True, kw_only=True)
class _Golden:
    decoded: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    bottlenecks: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any]


def _read_golden(files: BundleFiles, manifest: Manifest) -> _Golden:
    path = files.path(GOLDEN_FILE)
    if GOLDEN_FILE not in manifest.files:
        raise BundleError(f"{path.parent}: has no {GOLDEN_FILE} to compare with; export it again")
    try:
        with np.load(BytesIO(files.read(GOLDEN_FILE)), allow_pickle=False) as arrays:
            golden = _Golden(
                decoded=load_image(arrays["picture"].tobytes(), manifest.preprocessing.geometry),
                images=arrays["images"],
                bottlenecks=arrays["bottlenecks"],
                probabilities=arrays["probabilities"],
            )
    # TypeError: a single array, which is no archive.
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, ImageError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    number = len(golden.images) if golden.images.ndim else 0
    for array, tensor in (
        (golden.images, manifest.base.input),
        (golden.bottlenecks, manifest.base.output),
        (golden.probabilities, manifest.head.output),
    ):
        if not number or array.dtype != tensor.dtype or array.shape != (number, *tensor.shape[1:]):
            raise BundleError(
                f"{path}: holds {array.dtype} {array.shape} for {tensor.name}, which does not fit "
                "the manifest; export the bundle again"
            )
    return golden


def _relative_difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found - expected).max()) / scale
