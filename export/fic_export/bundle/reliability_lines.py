"""What calibration and the score for unknown pictures came to, in lines for people."""

from collections.abc import Mapping
from typing import Any

from fic_runtime.bundle.manifest import Known, Manifest


def reliability_lines(manifest: Manifest) -> list[str]:
    """Return a line for each of the two that was asked for."""
    lines = []
    if manifest.calibration:
        lines.append(_calibration_line(manifest.calibration))
    if manifest.known is not None:
        lines.append(_known_line(manifest.known))
    return lines


def _calibration_line(calibration: Mapping[str, Any]) -> str:
    line = f"temperature {calibration['temperature']:.3g}: {calibration['reason']}"
    if calibration["ece_after"] is None:
        return line
    return (
        f"{line}; {calibration['fitted']:.3g} makes the calibration error "
        f"{calibration['ece_after']:.3f} instead of {calibration['ece_before']:.3f}"
    )


def _known_line(known: Known) -> str:
    figures = known.figures
    areas = figures["auroc"][known.method]
    return (
        f"known pictures by {known.method.replace('_', ' ')}: AUROC {areas['held_out']:.3f} on "
        f"classes left out, {areas['foreign']:.3f} on {figures['foreign_pictures']} foreign "
        f"pictures, of which {figures['foreign_rejected']:.0%} are unknown at a false rejection of "
        f"{known.false_rejection:g}"
    )
