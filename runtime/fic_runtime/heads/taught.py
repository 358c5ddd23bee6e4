"""Heads that are computed on the device from the statistics of the training."""

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import (
    CLASS_WEIGHTS_FILE,
    GOLDEN_FILE,
    HEAD_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    TEACHING_FILE,
    Bundle,
)
from ..bundle.arrays import read_golden_arrays
from ..bundle.files import HeldFiles, bundle_files
from ..bundle.head_only import head_files, head_golden
from ..bundle.labels import is_label
from ..bundle.manifest import Manifest, read_manifest
from ..bundle.places import appearing_bundle, check_bundle_place
from ..errors import BundleError, OutputError
from ..results import cannot_write
from .head import Head, extras_of
from .linear import linear_graph
from .ood_scores import pooled
from .statistics import ClassStatistics

if TYPE_CHECKING:
    from ..graphs.graph import Graph

OpenModel = Callable[[bytes], "Graph"]
_LEAST_LABELS = 2


def check_teachable(head: Head, label: str) -> ClassStatistics:
    """Return the statistics of a head that may be taught a label.

    Raises:
        BundleError: it has none.
        ValueError: the label is new and not one line of printable text.
    """
    if label not in head.labels and not is_label(label):
        raise ValueError(f"the label {label!r} is not one line of printable text")
    if head.teaching is None:
        raise BundleError(
            f"{head.path}: cannot be taught; export it with `fic export RUN --teachable`"
        )
    return head.teaching


def taught_head(
    head: Head,
    label: str,
    bottlenecks: NDArray[Any],
    deployed: Bundle,
    open_model: OpenModel,
) -> Head:
    """Return the head that knows more pictures of a label, (n, *bottleneck).

    Raises:
        BundleError, ValueError: see `check_teachable`.
    """
    teaching = check_teachable(head, label)
    if not np.isfinite(bottlenecks).all():
        raise BundleError(
            f"{head.path}: its base gives no numbers for one of the pictures of {label!r}, from "
            "which nothing can be learned; leave the picture out"
        )
    labels = head.labels if label in head.labels else (*head.labels, label)
    teaching = teaching.updated(labels.index(label), pooled(bottlenecks))
    return _made(head, labels, teaching, deployed, open_model)


def forgotten_head(head: Head, label: str, deployed: Bundle, open_model: OpenModel) -> Head:
    """Return the head without a label.

    Raises:
        BundleError: it cannot be taught, has no such label, or would have fewer than two.
    """
    teaching = check_teachable(head, label)
    if label not in head.labels:
        raise BundleError(f"{head.path}: has no label {label!r} to forget")
    if len(head.labels) <= _LEAST_LABELS:
        raise BundleError(
            f"{head.path}: has only {len(head.labels)} labels, and a head needs "
            f"{_LEAST_LABELS}; teach another one first"
        )
    index = head.labels.index(label)
    labels = head.labels[:index] + head.labels[index + 1 :]
    return _made(head, labels, teaching.without(index), deployed, open_model)


def _made(
    head: Head,
    labels: tuple[str, ...],
    teaching: ClassStatistics,
    deployed: Bundle,
    open_model: OpenModel,
) -> Head:
    weights = teaching.head()
    base = deployed.manifest
    output = replace(head.manifest.head.output, shape=(None, len(labels)))
    spec = replace(head.manifest.head, file=HEAD_FILE, output=output)
    model = linear_graph(weights, spec, labels)
    graph = open_model(model)
    pictures = dict(zip(labels, teaching.counts.tolist(), strict=True))
    manifest = replace(
        head.manifest,
        labels=labels,
        head=spec,
        files=base.base_files,
        head_only=True,
        feature_map=base.feature_map,
        origin={**head.manifest.origin, "head": "taught", "pictures": pictures},
        parity={},
        metrics={},
        calibration={},
        known=None,
        single_graph={},
        quantization=base.quantization,
    )
    files = {
        HEAD_FILE: model,
        LABELS_FILE: "".join(f"{label}\n" for label in labels).encode(),
        TEACHING_FILE: _npz(teaching.arrays()),
        CLASS_WEIGHTS_FILE: _npz({"kernel": weights.kernel, "bias": weights.bias}),
    }
    if GOLDEN_FILE in base.own_files:
        recorded = read_golden_arrays(deployed.files, base)["bottlenecks"]
        files |= head_golden(recorded, graph.run(recorded))
    return held_head(head.path, head_files(manifest, files), graph)


def held_head(path: Path, files: Mapping[str, bytes], graph: "Graph") -> Head:
    """Return the head of a head-only bundle that lies nowhere yet, as `Head.files` has it.

    Args:
        path: where the head was that it was taught from.
        files: every file by its name.
        graph: the graph among them, opened.
    """
    manifest = Manifest.from_json(files[MANIFEST_FILE].decode())
    graph.check(manifest.head)
    extras = extras_of(Bundle(HeldFiles(files), manifest, path))
    return Head(path, manifest, graph, **extras, files=files)


def save_head(head: Head, path: Path) -> None:
    """Write a taught head as a head-only bundle, whole or not at all.

    Args:
        head: a head that was taught since it was opened.
        path: the folder or, if the name ends in .zip, the archive; an earlier head is replaced.

    Raises:
        OutputError: something other than a head is there, or it cannot be written.
        ValueError: the head was not taught; its bundle has it already.
    """
    if not head.files:
        raise ValueError(f"nothing was taught since {head.path} was opened; there is no new head")
    check_head_place(path)
    with appearing_bundle(path) as folder:
        for name, data in head.files.items():
            (folder / name).write_bytes(data)


def check_head_place(path: Path) -> None:
    """Make sure that a taught head may be written at `path`.

    Raises:
        OutputError: something other than a head is there, or it cannot be written.
    """
    try:
        _check_holds_a_head(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    check_bundle_place(path)


def _check_holds_a_head(path: Path) -> None:
    """Refuse what is there unless it is a head: a whole bundle is worth more than a taught head."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    with suppress(BundleError, OSError):
        if read_manifest(bundle_files(path)).head_only:
            return
    raise OutputError(f"{path}: holds something that is not a head; give another path")


def _npz(arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
