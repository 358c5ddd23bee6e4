"""`fic compare`: several bases on the same pictures and folds, and which one to take."""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image

from ..bases.opening import open_base
from ..data import Source
from ..options import BaseOptions, CacheOptions, StrPath, TrainingOptions
from ..progress import Progress, shown
from .cached_pictures import CachedPictures, read_cached
from .comparing_page import render_comparison
from .comparison import Compared, Comparison
from .cross_validation import FOLDS, Score, chance_of_no_difference, cross_validate, folds_of
from .page_files import check_page, write_page

_TIMED = 48  # pictures
_CALLS = 15
_BATCH = 16
_CHANCE = 0.05  # below it two bases differ
_HEAD_BYTES = 10_000  # of a head and a manifest beside the weights


def compare(
    source: Source | StrPath,
    base_models: Sequence[str],
    *,
    out: StrPath | None = None,
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    options: TrainingOptions | None = None,
    folds: int = FOLDS,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Compare bases by accuracy in the same folds, and by speed and size on this machine.

    Args:
        source: the pictures, or the folder or CSV file of all of them. Both sides of a split are
            compared on together.
        base_models: two or more, each as `BaseOptions.base_model`.
        out: file for a page, `.html`; None writes none.
        base: what else is said of all bases.
        cache: how bottlenecks are extracted and kept.
        options: how the heads are trained.
        folds: parts, each of which is left out once.
        progress: told of each step; by default bars where somebody watches, and False for none.

    Raises:
        DataError: a class has fewer pictures than folds, or there is only one class.
        OutputError: `out` cannot be written, or is something else than an earlier page.
        FicError: see `fic.training.pipeline.train`.
    """
    source = source if isinstance(source, Source) else Source(data=source)
    if isinstance(base_models, str):  # or each of its letters would be a base
        raise TypeError(f"base_models is a series of names; received {base_models!r}")
    names = list(dict.fromkeys(base_models))
    if len(names) < 2:
        raise ValueError("a comparison needs at least two bases")
    if folds < 2:
        raise ValueError(f"{folds} folds leave nothing to train on; give at least 2")
    page = None if out is None else Path(out)
    if page is not None:
        check_page(page)
        source.keep_apart(page)
    progress, cache = shown(progress), cache or CacheOptions()
    recipe, common = options or TrainingOptions(), base or BaseOptions()
    bases = [replace(common, base_model=name) for name in names]
    found = [_measured(source, each, cache, recipe, folds, progress) for each in bases]
    comparison = _side_by_side(found, folds)
    if page is not None:
        write_page(page, render_comparison(comparison))
    return comparison


@dataclass(frozen=True, kw_only=True)
class _Measured:
    name: str
    pictures: CachedPictures
    score: Score
    images_per_second: float
    milliseconds: float
    bundle_bytes: int

    def right_of(self, paths: Sequence[Path]) -> NDArray[Any]:
        """Return what it gets right of these pictures, in their order."""
        row = {path: number for number, path in enumerate(self.pictures.paths)}
        return self.score.right[[row[path] for path in paths]]


def _measured(
    source: Source,
    base: BaseOptions,
    cache: CacheOptions,
    recipe: TrainingOptions,
    folds: int,
    progress: Progress,
) -> _Measured:
    pictures = read_cached(source, base, cache, progress, seed=recipe.seed)
    fold = folds_of(pictures, folds, seed=recipe.seed)
    (score,) = cross_validate(pictures, fold, [recipe], progress, what=base.base_model)
    frozen = open_base(base, cache.bottleneck_dir, dtype=cache.dtype)
    file = frozen.graph_file()
    rate, milliseconds = _timed(file, pictures, frozen.preprocessing.geometry)
    head = 4 * len(pictures.labels) * (pictures.rows.shape[1] + 1)
    return _Measured(
        name=base.base_model,
        pictures=pictures,
        score=score,
        images_per_second=rate,
        milliseconds=milliseconds,
        bundle_bytes=file.stat().st_size + head + _HEAD_BYTES,
    )


def _timed(file: Path, pictures: CachedPictures, geometry: Any) -> tuple[float, float]:
    """Return pictures a second in batches, and milliseconds of one picture."""
    graph = Graph(file, device="cpu")
    chosen = np.random.default_rng(0).permutation(len(pictures))
    readable = _loaded((pictures.paths[row] for row in chosen), geometry)
    with closing(readable):
        files = [path for path, _ in islice(readable, _TIMED)]
    graph.run(load_image(files[0], geometry)[None])  # the first is slower
    started = time.perf_counter()
    for start in range(0, len(files), _BATCH):
        part = files[start : start + _BATCH]
        graph.run(np.stack([load_image(path, geometry) for path in part]))
    rate = len(files) / (time.perf_counter() - started)
    times = []
    for call in range(_CALLS):
        started = time.perf_counter()
        graph.run(load_image(files[call % len(files)], geometry)[None])
        times.append(time.perf_counter() - started)
    return rate, 1000 * statistics.median(times)


def _loaded(paths: Any, geometry: Any) -> Any:
    for path in paths:
        try:
            yield path, load_image(path, geometry)
        except ImageError:  # gone since it was extracted
            continue


def _side_by_side(found: Sequence[_Measured], folds: int) -> Comparison:
    ordered = sorted(found, key=lambda each: -each.score.accuracy)
    best = ordered[0]
    everywhere = set.intersection(*(set(each.pictures.paths) for each in found))
    shared = [path for path in best.pictures.paths if path in everywhere]
    rows = []
    for each in ordered:
        chance = chance_of_no_difference(best.right_of(shared), each.right_of(shared))
        rows.append(
            Compared(
                base=each.name,
                accuracy=each.score.accuracy,
                standard_error=each.score.standard_error,
                features=each.pictures.rows.shape[1],
                images_per_second=each.images_per_second,
                milliseconds=each.milliseconds,
                bundle_bytes=each.bundle_bytes,
                chance=chance,
                alike=chance >= _CHANCE,
                pareto=not any(
                    other.score.accuracy >= each.score.accuracy
                    and other.milliseconds < each.milliseconds
                    for other in found
                    if other is not each
                ),
            )
        )
    recommended = min((row for row in rows if row.alike), key=lambda row: row.milliseconds)
    return Comparison(
        pictures=len(best.pictures),
        classes=len(best.pictures.labels),
        folds=folds,
        rows=rows,
        recommended=recommended.base,
        reason=_reason(rows, recommended),
        use=best.pictures.use,
    )


def _reason(rows: Sequence[Compared], recommended: Compared) -> str:
    best, alike = rows[0], [row for row in rows if row.alike]
    if len(alike) == 1:
        return (
            f"{best.base} is the most accurate, and by more than chance: {best.accuracy:.1%} "
            f"against {rows[1].accuracy:.1%} of {rows[1].base}"
        )
    others = " and ".join(row.base for row in alike if row is not recommended)
    return (
        f"{recommended.base} cannot be told from {others} on these pictures, and is the "
        f"quickest of them: {recommended.milliseconds:.1f} ms a picture"
    )
