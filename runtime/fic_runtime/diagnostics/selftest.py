"""Prove that a bundle gives on this device what it gave where it was exported."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import GOLDEN_FILE, Bundle, open_bundle
from ..bundle.arrays import read_golden_arrays
from ..bundle.manifest import Manifest
from ..classifier import Classifier
from ..devices import Device
from ..errors import BundleError, ImageError
from ..images import load_image

# Devices and builds differ in the order of their sums. A wrong kernel is off by far more.
TOLERANCE = 1e-3
# A decoder may round a pixel the other way, and resizing may spread that by one more level.
PIXEL_TOLERANCE = 2


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """How far this device is from the recorded outputs.

    `pixels` is the largest difference in grey levels after decode and resize, `bottlenecks` the
    largest difference relative to the largest bottleneck, `probabilities` the largest absolute
    difference. The tolerances are those that the bundle allows for these two.
    """

    provider: str
    pictures: int
    pixels: int
    bottlenecks: float
    probabilities: float
    bottlenecks_tolerance: float = TOLERANCE
    probabilities_tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether all three differences are within their tolerance."""
        return (
            self.pixels <= PIXEL_TOLERANCE
            and self.bottlenecks <= self.bottlenecks_tolerance
            and self.probabilities <= self.probabilities_tolerance
        )


def run_selftest(
    bundle: str | os.PathLike[str],
    *,
    head: str | os.PathLike[str] | None = None,
    device: Device | None = None,
    allow_fallback: bool = False,
    threads: int | None = None,
    public_key: Path | None = None,
) -> SelfTest:
    """Run the bundle's golden pictures and compare with the outputs recorded at export.

    Args:
        bundle: the bundle that has the base.
        head: the bundle of another head for this base; its own recorded bottlenecks go into it.
        device: see `Classifier`.
        threads: see `Classifier`.
        public_key: see `Classifier`.

    Raises:
        BundleError: the bundle, or its `golden.npz`, cannot be used.
        DeviceError: the device that was asked for cannot be used here.
    """
    with Classifier(
        bundle,
        head=head,
        device=device,
        allow_fallback=allow_fallback,
        threads=threads,
        public_key=public_key,
    ) as classifier:
        opened = open_bundle(bundle, public_key=public_key)
        recorded = _read_golden(opened)
        bottlenecks, probabilities = classifier.run(recorded["images"])
        expected = recorded["probabilities"]
        if head is not None:
            of_head = _read_golden(open_bundle(head, public_key=public_key), pictures=False)
            probabilities = classifier.probabilities(of_head["bottlenecks"])
            expected = of_head["probabilities"]
        allowed = opened.manifest
        return SelfTest(
            provider=classifier.provider,
            pictures=len(recorded["images"]),
            pixels=int(np.abs(recorded["decoded"].astype(int) - recorded["images"][0]).max()),
            bottlenecks=_relative_difference(bottlenecks, recorded["bottlenecks"]),
            probabilities=float(np.abs(probabilities - expected).max()),
            bottlenecks_tolerance=_tolerance(allowed, "bottlenecks"),
            probabilities_tolerance=_tolerance(allowed, "probabilities"),
        )


def _tolerance(manifest: Manifest, name: str) -> float:
    """Return the bundle's tolerance: docs/reference/bundle-format.md, "Quantized bases"."""
    stated = manifest.quantization.get("tolerance") or {}
    value = stated.get(name, TOLERANCE) if isinstance(stated, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BundleError(
            f"manifest.json: quantization.tolerance.{name} is {value!r} and not a number from 0 "
            "to 1; export the bundle again"
        )
    return float(value)


def _read_golden(bundle: Bundle, *, pictures: bool = True) -> dict[str, NDArray[Any]]:
    """Return the recorded arrays; with `pictures` also what is to go in, and it as decoded here."""
    files, manifest = bundle.files, bundle.manifest
    path = files.path(GOLDEN_FILE)
    if GOLDEN_FILE not in manifest.own_files:
        raise BundleError(f"{path.parent}: has no {GOLDEN_FILE} to compare with; export it again")
    tensors = {"bottlenecks": manifest.base.output, "probabilities": manifest.head.output}
    if pictures:
        tensors = {"images": manifest.base.input, **tensors}
    try:
        arrays = read_golden_arrays(files, manifest)
        golden = {name: arrays[name] for name in tensors}
        if pictures:
            file = arrays["picture"].tobytes()
            golden["decoded"] = load_image(file, manifest.preprocessing.geometry)
    except (OSError, ValueError, KeyError, ImageError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    first = next(iter(tensors))
    number = len(golden[first]) if golden[first].ndim else 0
    for name, tensor in tensors.items():
        array = golden[name]
        if not number or array.dtype != tensor.dtype or array.shape != (number, *tensor.shape[1:]):
            raise BundleError(
                f"{path}: holds {array.dtype} {array.shape} for {tensor.name}, which does not fit "
                "the manifest; export the bundle again"
            )
    return golden


def _relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found - expected).max()) / scale
