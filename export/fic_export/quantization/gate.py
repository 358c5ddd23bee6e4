"""The gate of quantization: a smaller base must still do what the float32 one does."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from fic_runtime.bundle import BASE_FILE, HEAD_FILE
from fic_runtime.devices import usable_cpus
from fic_runtime.diagnostics.selftest import TOLERANCE
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.onnx_runtime import onnxruntime
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Preprocessing

from ..errors import ConversionError, ParityError, one_line
from ..graphs.files import weights_file
from ..graphs.surgery import skip_identities_of_constants
from ..options import Purpose, Scheme

_BATCH = 16
_ROUNDS = 11
_TURN_SECONDS = 0.12
# Between the two ways that are measured, and a device that is unlike both.
_MARGIN = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a base of fewer bits must keep to take the place of the float32 one.

    Attributes:
        max_accuracy_drop: how much accuracy may be lost; where the targets are not known, for which
            share of the pictures another class may be named.
        min_accuracy: least accuracy; None asks for none.
        purpose: `speed` refuses int8 that is not faster here; `size` takes it for its size, for
            devices that this machine says nothing of.
    """

    max_accuracy_drop: float
    min_accuracy: float | None = None
    purpose: Purpose = "speed"


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Figures of a base in fewer bits beside the float32 one, over the same pictures.

    Attributes:
        scheme: `int8` or `fp16`.
        calibration_pictures: number of pictures on which the ranges of values were measured; 0 for
            fp16.
        pictures: number of pictures on which the two were compared.
        largest_difference: of any probability.
        mean_difference: over all probabilities.
        top_1_agreement: share of the pictures for which both name the same class.
        float32_accuracy: share of the pictures whose class the float32 bundle names; None if it
            is not known.
        accuracy: likewise of the bundle as written.
        float32_bytes: size of the float32 `base.onnx`.
        bytes: size of `base.onnx` as written.
        float32_milliseconds: for one picture through the base, on the processor of the export.
        milliseconds: likewise of the base as written.
        speedup: median of the ratios of both, measured in turn; more than 1 is faster.
        tolerance: how far another device may be from `golden.npz`: `bottlenecks`, relative, and
            `probabilities`.
    """

    scheme: str
    calibration_pictures: int
    pictures: int
    largest_difference: float
    mean_difference: float
    top_1_agreement: float
    float32_accuracy: float | None
    accuracy: float | None
    float32_bytes: int
    bytes: int
    float32_milliseconds: float
    milliseconds: float
    speedup: float
    tolerance: Mapping[str, float]

    @property
    def accuracy_drop(self) -> float:
        """Accuracy that is lost; where the classes are not known, share of other answers."""
        if self.float32_accuracy is None or self.accuracy is None:
            return 1 - self.top_1_agreement
        return self.float32_accuracy - self.accuracy

    def check(self, limits: Limits) -> None:
        """Refuse a base that loses too much, or int8 that was wanted for speed and gains none.

        fp16 may be slower on the CPU, where it saves space only.

        Raises:
            ParityError: a bound is not kept.
        """
        way_out = "nothing was written, export without --quantize"
        if not np.isfinite(self.largest_difference):
            raise ParityError(f"the {self.scheme} base gives values that are not finite; {way_out}")
        # Shares of few pictures are not exact in binary: 0.9 - 0.89 is a little more than 0.01.
        if not self.accuracy_drop <= limits.max_accuracy_drop + 1e-9:
            lost = (
                f"names another class for {self.accuracy_drop:.2%} of"
                if self.accuracy is None or self.float32_accuracy is None
                else f"is right for {self.accuracy:.2%} instead of {self.float32_accuracy:.2%} of"
            )
            raise ParityError(
                f"the {self.scheme} base {lost} {self.pictures} pictures (at most "
                f"{limits.max_accuracy_drop:.2%} may be lost); {way_out} or allow a larger "
                "--max-accuracy-drop"
            )
        least = limits.min_accuracy
        if least is not None and not (self.accuracy or 0.0) >= least:
            raise ParityError(
                f"the accuracy of the {self.scheme} bundle on {self.pictures} pictures is "
                f"{self.accuracy or 0.0:.2%} (at least {least:.2%} is asked for); {way_out}"
            )
        if self.scheme == "int8" and limits.purpose == "speed" and not self.speedup > 1:
            raise ParityError(
                f"the int8 base takes {self.milliseconds:.3g} ms for a picture and the float32 one "
                f"{self.float32_milliseconds:.3g} ms ({self.speedup:.2f}x the speed), so it is "
                f"not faster here; {way_out}, export where it will run, or take it --for size"
            )


def quantize_base(
    folder: Path,
    scheme: Scheme,
    preprocessing: Preprocessing,
    pictures: Sequence[Path],
    *,
    targets: Sequence[int] | None = None,
    calibration: Sequence[Path] = (),
    limits: Limits,
) -> Quantization:
    """Replace the float32 `base.onnx` in a bundle's folder by one of fewer bits.

    The metadata of the graph stay; digests in the manifest are the caller's business.

    Args:
        folder: holds `base.onnx` and `head.onnx`, both float32.
        scheme: `int8` or `fp16`.
        preprocessing: how pictures become inputs.
        pictures: image files on which both bases are compared, with the same head.
        targets: for each of them the index of its label, if that is known.
        calibration: image files for the ranges of int8; training pictures, so that the comparison
            is on others.
        limits: what it must keep, or the folder stays as it was.

    Raises:
        ConversionError: the graph holds nothing to be quantized.
        ImageError: one of the files cannot be read.
        ParityError: a bound is not kept; the folder is as it was.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"quantize is one of {', '.join(get_args(Scheme))}; received {scheme!r}")
    if (folder / weights_file(BASE_FILE)).exists():
        raise ConversionError(
            "a base of more than 2 GB cannot be quantized; nothing was written, export without "
            "--quantize"
        )
    file, geometry = folder / BASE_FILE, preprocessing.geometry
    before = file.read_bytes()
    if scheme == "fp16":
        calibration = ()
    after = _smaller(before, scheme, [load_image(path, geometry) for path in calibration])
    further = len(onnx.load_from_string(before).graph.output) - 1
    bases = [
        Graph(graph, name=BASE_FILE, device="cpu", further_outputs=further)
        for graph in (before, after)
    ]
    head = Graph(folder / HEAD_FILE, device="cpu")
    answers: list[list[NDArray[Any]]] = [[], []]
    for start in range(0, len(pictures), _BATCH):
        batch = np.stack([load_image(path, geometry) for path in pictures[start : start + _BATCH]])
        for base, probabilities in zip(bases, answers, strict=True):
            probabilities.append(head.run(base.run(batch)))
    expected, found = (np.concatenate(probabilities) for probabilities in answers)
    reference = _unfused(after, batch) if scheme == "int8" else bases[0].run(batch)
    quantization = Quantization(
        scheme=scheme,
        calibration_pictures=len(calibration),
        pictures=len(pictures),
        **_comparison(expected, found, targets),
        float32_bytes=len(before),
        bytes=len(after),
        **_speed(bases, batch[:1]),
        tolerance=_tolerance(reference, bases[1].run(batch), head),
    )
    quantization.check(limits)
    file.write_bytes(after)
    return quantization


def time_in_turn(bases: Sequence[Graph], batch: NDArray[Any]) -> list[list[float]]:
    """Return for each base the seconds of its quickest pass in each of several turns, A B A B ...

    In turn, because the speed of a machine wanders while it is measured.
    """
    times: list[list[float]] = [[] for _ in bases]
    for base in bases:
        base.run(batch)  # the first pass allocates
    for _ in range(_ROUNDS):
        for base, seconds in zip(bases, times, strict=True):
            seconds.append(_seconds(base, batch))
    return times


def _smaller(graph: bytes, scheme: Scheme, images: Sequence[NDArray[Any]]) -> bytes:
    from .fp16 import convert_to_half
    from .int8 import quantize_int8

    model = onnx.load_from_string(graph)
    try:
        if scheme == "int8":
            skip_identities_of_constants(model.graph)
            smaller = quantize_int8(model, images)
        else:
            smaller = convert_to_half(model)
    except ConversionError:
        raise
    # The quantizers raise whatever they meet in graphs of others.
    except Exception as error:
        raise ConversionError(
            f"the base cannot be quantized ({one_line(error)}); nothing was written, export "
            "without --quantize"
        ) from error
    return bytes(smaller.SerializeToString(deterministic=True))


def _comparison(
    expected: NDArray[Any], found: NDArray[Any], targets: Sequence[int] | None
) -> dict[str, Any]:
    difference = np.abs(found - expected)
    wanted, named = expected.argmax(axis=1), found.argmax(axis=1)
    return {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "top_1_agreement": float((named == wanted).mean()),
        "float32_accuracy": None
        if targets is None
        else float((wanted == np.asarray(targets)).mean()),
        "accuracy": None if targets is None else float((named == np.asarray(targets)).mean()),
    }


def _unfused(graph: bytes, batch: NDArray[Any]) -> NDArray[Any]:
    """Return what an int8 graph gives node by node: float32 arithmetic, rounded in between."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = usable_cpus()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])


def _tolerance(reference: NDArray[Any], found: NDArray[Any], head: Graph) -> dict[str, float]:
    """Return how far a right device may be, from how far two right ways of computing are.

    A value that is rounded to 8 or 11 bits goes the other way for the least difference in a sum,
    and every layer after it sees that. Never less than what float32 bundles keep.
    """
    bottlenecks = np.abs(found - reference).max() / (np.abs(found).max() or 1.0)
    probabilities = np.abs(head.run(found) - head.run(reference)).max()
    return {
        "bottlenecks": float(np.clip(_digits(_MARGIN * bottlenecks), TOLERANCE, 1)),
        "probabilities": float(np.clip(_digits(_MARGIN * probabilities), TOLERANCE, 1)),
    }


def _speed(bases: Sequence[Graph], batch: NDArray[Any]) -> dict[str, float]:
    times = time_in_turn(bases, batch)
    return {
        "float32_milliseconds": _digits(1000 * statistics.median(times[0])),
        "milliseconds": _digits(1000 * statistics.median(times[1])),
        "speedup": _digits(statistics.median(a / b for a, b in zip(*times, strict=True))),
    }


def _digits(value: float) -> float:
    """Keep three digits: more would be noise."""
    return float(f"{value:.3g}")


def _seconds(base: Graph, batch: NDArray[Any]) -> float:
    """Return the seconds of the quickest pass in a turn: other work on the machine only adds."""
    quickest, started = math.inf, time.perf_counter()
    while True:
        before = time.perf_counter()
        base.run(batch)
        now = time.perf_counter()
        quickest = min(quickest, now - before)
        if now - started >= _TURN_SECONDS:
            return quickest
