"""Base and head fused in one ONNX file, for programs that load a single graph."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fic_runtime.bundle.manifest import Manifest
from fic_runtime.classifier import Classifier
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.spec import GraphSpec
from fic_runtime.images import load_image

from ..conversion.keras_to_onnx import IMAGE, PROBABILITIES
from ..errors import ConversionError, ParityError
from ..graphs.files import check, of_answers, of_pictures, write_graph
from ..graphs.surgery import canonicalize, join

SINGLE_FILE = "classifier.onnx"

# Of any probability. The arithmetic is the same; only what is merged across the seam may round
# otherwise.
_BOUND = 1e-4
_BATCH = 16


def fuse(base: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """Return one graph from the base's input `image` to the head's output `probabilities`.

    The bottleneck is not an output: most loaders of a single graph expect one. Who wants both has
    the two graphs.

    Raises:
        ConversionError: the two are of different operator sets.
    """
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
    canonicalize(fused.graph, input_name=IMAGE, output_name=PROBABILITIES)
    check(fused)
    return fused


def write_single_graph(folder: Path, manifest: Manifest) -> None:
    """Write `classifier.onnx` of a bundle's folder from the two graphs that lie there.

    Raises:
        ConversionError: the two cannot become one graph.
    """
    graphs = [onnx.load(folder / spec.file) for spec in (manifest.base, manifest.head)]
    metadata = of_pictures(manifest.preprocessing) | of_answers(manifest.labels)
    write_graph(fuse(*graphs), folder / SINGLE_FILE, metadata)


def compare_single_graph(
    folder: Path, manifest: Manifest, pictures: Sequence[Path]
) -> Mapping[str, Any]:
    """Run pictures through the fused graph and through the two, and describe it for the manifest.

    Raises:
        ParityError: they differ.
    """
    fused = Graph(folder / SINGLE_FILE, device="cpu")
    spec = GraphSpec(file=SINGLE_FILE, input=manifest.base.input, output=manifest.head.output)
    fused.check(spec)
    differences = []
    with Classifier(folder, device="cpu") as classifier:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            geometry = manifest.preprocessing.geometry
            pixels = np.stack([load_image(path, geometry) for path in batch])
            _, expected = classifier.run(pixels)
            differences.append(np.abs(fused.run(pixels) - expected).max())
    largest = float(np.max(differences))
    # Not a number is past the bound, too.
    if not largest <= _BOUND:
        raise ParityError(
            f"{SINGLE_FILE} differs from the two graphs by {largest:.2g} (at most {_BOUND:.2g} is "
            "allowed); nothing was written, export without a single graph and report it"
        )
    return asdict(spec) | {"pictures": len(pictures), "largest_difference": largest}
