"""A head that is open, and whether it fits the base that it is to sit on."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bundle import CLASS_WEIGHTS_FILE, TEACHING_FILE, Bundle, open_bundle
from ..bundle.head_only import shown_base
from ..bundle.manifest import Manifest
from ..errors import BundleError, ImageError
from ..predictions import Prediction

if TYPE_CHECKING:
    from ..graphs.graph import Batch, Graph
    from .linear import LinearHead
    from .out_of_distribution import OutOfDistribution
    from .statistics import ClassStatistics

Answer = TypeVar("Answer")
OpenGraph: TypeAlias = "Callable[[Bundle, str], Graph]"


@dataclass(frozen=True, eq=False)
class Head:
    """A graph with its labels and whatever else belongs to it; never changed, only replaced.

    Who reads one of these once has answers of one head alone, whatever other threads put in its
    place meanwhile.
    """

    path: Path
    manifest: Manifest
    graph: "Graph"
    ood: "OutOfDistribution | None" = None
    linear: "LinearHead | None" = None
    teaching: "ClassStatistics | None" = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    """The whole head-only bundle of a head that was taught here and lies nowhere yet."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.manifest.labels

    def run(self, bottlenecks: "Batch") -> NDArray[Any]:
        """Return the probabilities of bottlenecks, float32 (n, labels)."""
        return self.graph.run(bottlenecks)

    def predict(self, bottlenecks: "Batch") -> list[Prediction]:
        """Return one answer for each of the bottlenecks, (n, *bottleneck).

        Raises:
            ImageError: one is not finite, and so would be the answer.
        """
        return [answered(answer) for answer in self.answers(bottlenecks)]

    def answers(self, bottlenecks: "Batch") -> list[Prediction | ImageError]:
        """Return the same, with an error in the place of an answer that would not be finite."""
        rows = self.run(bottlenecks)
        finite = np.isfinite(rows).all(axis=1)
        if isinstance(bottlenecks, np.ndarray):  # elsewhere they stay on their device
            finite &= are_finite(bottlenecks)
        if finite.all():
            return [*self._predictions(bottlenecks, rows)]
        found = iter(self._predictions(np.asarray(bottlenecks)[finite], rows[finite]))
        return [next(found) if usable else not_finite() for usable in finite.tolist()]

    def _predictions(self, bottlenecks: "Batch", rows: NDArray[Any]) -> list[Prediction]:
        ood = self.ood
        if ood is None:
            return [Prediction.from_probabilities(row, self.labels) for row in rows]
        scores = ood.score(np.asarray(bottlenecks), rows)
        return [
            Prediction.from_probabilities(
                row, self.labels, known=ood.is_known(score), ood_score=score
            )
            for row, score in zip(rows, scores.tolist(), strict=True)
        ]


def are_finite(bottlenecks: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each of the bottlenecks, (n, *bottleneck), whether all its values are finite."""
    finite: NDArray[np.bool_] = np.isfinite(bottlenecks.reshape(len(bottlenecks), -1)).all(axis=1)
    return finite


def not_finite() -> ImageError:
    """Return the error of a picture for which the base gives infinite values, or none at all."""
    return ImageError(
        "the base gives no finite values for it; leave the picture out, or, if that is so for "
        "others, export the bundle again and run `fic-runtime selftest`"
    )


def answered(answer: Answer | ImageError) -> Answer:
    """Return an answer, or raise the error in its place."""
    if isinstance(answer, ImageError):
        raise answer
    return answer


def open_head(path: str | os.PathLike[str], deployed: Bundle, open_graph: OpenGraph) -> Head:
    """Open the head of a bundle, head-only or whole, for the base of the bundle `deployed`.

    Args:
        path: the folder or zip archive with the head.
        deployed: the bundle that has the base.
        open_graph: opens a file of a bundle as a graph.

    Raises:
        BundleError: it cannot be read, or it was made for another base.
    """
    bundle = (
        deployed
        if Path(path) == deployed.files.path("")
        else open_bundle(path, public_key=deployed.public_key)
    )
    check_head(bundle, deployed)
    spec = bundle.manifest.head
    graph = open_graph(bundle, spec.file)
    graph.check(spec)
    return Head(Path(path), bundle.manifest, graph, **extras_of(bundle))


def extras_of(bundle: Bundle) -> dict[str, Any]:
    """Read what else a head has; what a bundle is without need not be loaded, either."""
    extras: dict[str, Any] = {}
    if bundle.manifest.known is not None:
        from .out_of_distribution import read_out_of_distribution

        extras["ood"] = read_out_of_distribution(bundle.files, bundle.manifest)
    if CLASS_WEIGHTS_FILE in bundle.manifest.own_files:
        from .linear import read_linear_head

        extras["linear"] = read_linear_head(bundle)
    if TEACHING_FILE in bundle.manifest.own_files:
        from .statistics import read_teaching

        extras["teaching"] = read_teaching(bundle)
    return extras


def check_head(bundle: Bundle, deployed: Bundle) -> None:
    """Make sure that the head of `bundle` was made for the very base of `deployed`.

    Raises:
        BundleError: the bases differ, or what goes into them does.
    """
    path, base_path = bundle.files.path(""), deployed.files.path("")
    head, base = bundle.manifest, deployed.manifest
    if head.base_files != base.base_files:
        raise BundleError(
            f"{path}: is a head for the base {shown_base(head)}, and {base_path} has the base "
            f"{shown_base(base)}; use the bundle that the head was made for, or export the head "
            f"again with `fic export RUN --head-only --base {base_path}`"
        )
    if head.base != base.base or head.preprocessing != base.preprocessing:
        what = "names and shapes of the base are not those"
        if head.base == base.base:
            what = "preprocessing is not that"
        raise BundleError(
            f"{path}: its {what} of {base_path}, although the base is the same; "
            f"export the head again with `fic export RUN --head-only --base {base_path}`"
        )
