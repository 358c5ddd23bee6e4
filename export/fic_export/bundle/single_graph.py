"""Base and head fused in one ONNX file, for programs that load a single graph."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.classifier import Classifier
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.spec import GraphSpec
from fic_runtime.heads.ood_scores import Score
from fic_runtime.heads.out_of_distribution import read_out_of_distribution
from fic_runtime.images import load_image

from ..conversion.keras_to_onnx import BOTTLENECK, IMAGE, PROBABILITIES
from ..errors import ConversionError, ParityError
from ..graphs.files import at_opset, check, of_answers, of_pictures, write_graph
from ..graphs.ood_nodes import OOD_SCORE, OOD_THRESHOLD, append_ood_score
from ..graphs.surgery import canonicalize, join, take_float

SINGLE_FILE = "classifier.onnx"

# Of any probability. The arithmetic is the same; only what is merged across the seam may round
# otherwise.
_BOUND = 1e-4
# Of the score for unknown pictures, as a share of the largest. The Mahalanobis distance divides by
# variances: where those are small beside the bottlenecks, rounding alone moves it by up to 5e-4.
_SCORE_BOUND = 1e-3
_BATCH = 16


class SingleGraph(NamedTuple):
    """What the fused graph takes and gives beside what it always does.

    Attributes:
        with_bottleneck: it gives `bottleneck` as its last output. Most loaders of a single graph
            expect none of its kind.
        float_input: it takes float32 pixels, 0..255, as some engines know no uint8.
    """

    with_bottleneck: bool = False
    float_input: bool = False


PLAIN = SingleGraph()


def fuse(
    base: onnx.ModelProto,
    head: onnx.ModelProto,
    *,
    form: SingleGraph = PLAIN,
    score: Score | None = None,
) -> onnx.ModelProto:
    """Return one graph from the base's input `image` to the head's output `probabilities`.

    Args:
        base: the base's graph.
        head: the head's graph.
        form: what it takes and gives.
        score: what tells unknown pictures, which becomes a second output, `ood_score`, (n, 1).

    Raises:
        ConversionError: the two are of different operator sets, and cannot be brought to one.
    """
    # An int8 base is of a newer one than its head.
    newest = max(
        each.version for each in (*base.opset_import, *head.opset_import) if not each.domain
    )
    base, head = at_opset(base, newest), at_opset(head, newest)
    opsets = [
        {opset.domain: opset.version for opset in model.opset_import} for model in (base, head)
    ]
    if any(opsets[0].get(domain, version) != version for domain, version in opsets[1].items()):
        raise ConversionError(
            f"base and head are of different operator sets ({opsets[0]} and {opsets[1]}) and "
            "cannot become one graph; export without a single graph"
        )
    fused = onnx.ModelProto(
        ir_version=max(base.ir_version, head.ir_version), producer_name=base.producer_name
    )
    for domain, version in sorted((opsets[1] | opsets[0]).items()):
        fused.opset_import.add(domain=domain, version=version)
    fused.graph.CopyFrom(join([base.graph, head.graph]))
    fused.graph.name = "classifier"
    if score is not None:
        _append_score(fused, base.graph.output[0], score)
    if form.with_bottleneck:
        _append_bottleneck(fused.graph, base.graph.output[0])
    if form.float_input:
        take_float(fused.graph)
    canonicalize(fused.graph, input_name=IMAGE, output_name=PROBABILITIES)
    check(fused)
    return fused


def _append_score(fused: onnx.ModelProto, bottleneck: onnx.ValueInfoProto, score: Score) -> None:
    graph = fused.graph
    inner = graph.value_info.add()
    inner.CopyFrom(bottleneck)
    inner.name = _joined(bottleneck)
    append_ood_score(
        graph,
        score,
        bottleneck=inner.name,
        probabilities=graph.output[0].name,
        opset=next(opset.version for opset in fused.opset_import if not opset.domain),
    )


def _append_bottleneck(graph: onnx.GraphProto, bottleneck: onnx.ValueInfoProto) -> None:
    # By a node of its own, whose output can have the name.
    graph.node.append(onnx.helper.make_node("Identity", [_joined(bottleneck)], [BOTTLENECK]))
    output = graph.output.add()
    output.CopyFrom(bottleneck)
    output.name = BOTTLENECK
    output.type.tensor_type.shape.dim[0].dim_param = "n"


def _joined(bottleneck: onnx.ValueInfoProto) -> str:
    """Return what `join` calls the output of the first graph."""
    return f"0/{bottleneck.name}"


def write_single_graph(folder: Path, manifest: Manifest, *, form: SingleGraph = PLAIN) -> None:
    """Write `classifier.onnx` of a bundle's folder from the two graphs that lie there.

    Where the bundle has a score for unknown pictures, the graph gives that too, and the threshold
    stands in its metadata as `ood_threshold`.

    Raises:
        ConversionError: the two cannot become one graph.
    """
    graphs = [onnx.load(folder / spec.file) for spec in (manifest.base, manifest.head)]
    metadata = of_pictures(manifest.preprocessing) | of_answers(manifest.labels)
    ood = read_out_of_distribution(bundle_files(folder), manifest)
    if ood is not None:
        metadata[OOD_THRESHOLD] = repr(ood.threshold)
    fused = fuse(*graphs, form=form, score=None if ood is None else ood.method)
    write_graph(fused, folder / SINGLE_FILE, metadata)


def compare_single_graph(
    folder: Path, manifest: Manifest, pictures: Sequence[Path], *, form: SingleGraph = PLAIN
) -> Mapping[str, Any]:
    """Run pictures through the fused graph and through the two, and describe it for the manifest.

    Raises:
        ParityError: they differ.
    """
    ood = read_out_of_distribution(bundle_files(folder), manifest)
    outputs = [
        *([OOD_SCORE] if ood is not None else []),
        *([BOTTLENECK] if form.with_bottleneck else []),
    ]
    fused = Graph(folder / SINGLE_FILE, device="cpu", further_outputs=len(outputs))
    dtype = "float32" if form.float_input else manifest.base.input.dtype
    taken = replace(manifest.base.input, dtype=dtype)
    spec = GraphSpec(file=SINGLE_FILE, input=taken, output=manifest.head.output)
    fused.check(spec, fused.further)
    differences: dict[str, list[float]] = {name: [] for name in (PROBABILITIES, *outputs)}
    with Classifier(folder, device="cpu") as classifier:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            geometry = manifest.preprocessing.geometry
            pixels = np.stack([load_image(path, geometry) for path in batch])
            bottlenecks, probabilities = classifier.run(pixels)
            expected = {PROBABILITIES: probabilities, BOTTLENECK: bottlenecks}
            if ood is not None:
                expected[OOD_SCORE] = ood.score(bottlenecks, probabilities)[:, None]
            answers = fused.run_outputs(pixels.astype(dtype, copy=False), list(differences))
            for name, found in zip(differences, answers, strict=True):
                differences[name].append(_difference(found, expected[name]))
    largest = {name: float(np.max(found)) for name, found in differences.items()}
    # Not a number is past the bound, too.
    for name, difference in largest.items():
        bound = _SCORE_BOUND if name == OOD_SCORE else _BOUND
        if not difference <= bound:
            raise ParityError(
                f"{SINGLE_FILE} differs from the two graphs by {difference:.2g} in {name} (at most "
                f"{bound:.2g} is allowed); nothing was written, export without a single graph and "
                "report it"
            )
    entry = asdict(spec) | {
        "pictures": len(pictures),
        "largest_difference": largest[PROBABILITIES],
    }
    return entry | ({"further_outputs": outputs} if outputs else {})


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference, in units of the largest value where that is above 1."""
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found - expected).max()) / scale
