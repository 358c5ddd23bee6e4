"""The audit of a data set: what may be wrong with its pictures, its labels and its classes."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Source
from ..data.source import is_split
from ..data.thumbnails import Thumbnail, read_thumbnails
from ..errors import DataError
from ..options import BaseOptions, CacheOptions, StrPath
from ..progress import Progress, shown
from .audit_page import render_audit
from .cached_pictures import CachedPictures, read_cached
from .duplicates import DuplicateGroup, candidate_pairs, find_duplicates
from .file_checks import check_files
from .findings import Audit, Suspect
from .label_errors import (
    LabelErrors,
    assign_folds,
    check_folds,
    confused_classes,
    judge_labels,
)
from .logistic import Ints
from .neighbors import Neighbors, find_neighbors, unit_rows
from .outliers import Outlier, is_unusual, outlier_scores
from .writing import SUSPECTS_FILE, check_audit_folder, write_audit

FOLDS = 5
_NEIGHBORS = 6


@dataclass(frozen=True, kw_only=True)
class _Audited:
    """An audit, and what its page shows beside it; see `render_audit`."""

    audit: Audit
    thumbnails: Mapping[Path, Thumbnail]
    matrix: Sequence[Sequence[int]]


def audit(
    source: Source | StrPath,
    *,
    out: StrPath | None = None,
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Audit:
    """Find what may be wrong with the pictures of a data set, and change nothing.

    Args:
        source: the pictures, or the folder or CSV file of all of them; they are split as in a
            training with the same seed.
        out: folder for the findings; an earlier audit there is replaced. None writes nothing.
        base: base whose bottlenecks are looked at.
        cache: how they are extracted and kept.
        folds: classifiers that judge labels, each trained without the pictures that it judges.
        seed: of the split and of the folds.
        progress: told of each step; by default bars where somebody watches, and False for none.

    Raises:
        DataError: the data set cannot be used, or a class has fewer pictures than folds.
        OutputError: `out` holds something else than an audit, or one with decisions in it.
        FicError: see `fic.training.pipeline.train`.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds leave nothing to train on; give at least 2")
    source = source if isinstance(source, Source) else Source(data=source)
    folder = None if out is None else Path(out)
    if folder is not None:
        source.keep_apart(folder)
        check_audit_folder(folder)
    found = _inspect(
        source,
        base=base or BaseOptions(),
        cache=cache or CacheOptions(),
        folds=folds,
        seed=seed,
        progress=shown(progress),
    )
    if folder is not None:
        page = render_audit(
            found.audit, found.thumbnails, found.matrix, suspects=folder / SUSPECTS_FILE
        )
        write_audit(folder, found.audit, report=page, split=is_split(source))
    return found.audit


def _inspect(
    source: Source,
    *,
    base: BaseOptions,
    cache: CacheOptions,
    folds: int,
    seed: int,
    progress: Progress,
) -> _Audited:
    started = time.perf_counter()
    pictures = read_cached(source, base, cache, progress, seed=seed)
    if not len(pictures):
        raise DataError(f"{source.paths[0]}: no picture there could be read")
    counts = np.bincount(pictures.targets, minlength=len(pictures.labels)).tolist()
    check_folds(counts, pictures.labels, folds)
    thumbnails = _thumbnails(pictures, cache, progress)
    rows = unit_rows(pictures.rows, seed=seed)
    distinct, neighbors = _distinct_neighbors(pictures, rows, progress)
    duplicates = _duplicates(
        pictures, _of_all(distinct, neighbors, len(rows)), thumbnails, progress
    )
    fold = assign_folds(pictures.targets, _groups(pictures, duplicates), folds, seed=seed)
    errors = judge_labels(rows, pictures.targets, fold, len(pictures.labels), progress)
    use, sides = pictures.use, Counter(pictures.sides)
    found = Audit(
        base=pictures.base,
        counts=dict(zip(pictures.labels, counts, strict=True)),
        images={"train": sides["train"], "val": sides["val"]},
        suspects=_suspects(pictures, errors),
        duplicates=duplicates,
        outliers=_outliers(pictures, distinct, neighbors),
        confusions=confused_classes(errors, pictures.targets, pictures.labels),
        files=check_files(pictures.paths, thumbnails, use.skipped, use.files.left_out),
        agreement=float((errors.probabilities.argmax(axis=1) == pictures.targets).mean()),
        cache={"hits": use.hits, "extracted": use.extracted},
        seconds=time.perf_counter() - started,
        use=use,
    )
    judged = errors.probabilities.argmax(axis=1)
    pairs, times = np.unique(
        np.stack([pictures.targets, judged], axis=1), axis=0, return_counts=True
    )
    return _Audited(
        audit=found, thumbnails=thumbnails, matrix=np.column_stack([pairs, times]).tolist()
    )


def _thumbnails(
    pictures: CachedPictures, cache: CacheOptions, progress: Progress
) -> dict[Path, Thumbnail]:
    progress.start("looking", len(pictures), unit="picture")
    try:
        return read_thumbnails(
            pictures.paths, pictures.digests, cache.thumbnails, progress=progress.advance
        )
    finally:
        progress.finish()


def _distinct_neighbors(
    pictures: CachedPictures, rows: Any, progress: Progress
) -> tuple[Ints, Neighbors]:
    """Return the first picture of each content, and their neighbors among each other.

    Ten copies of one file would be each other's neighbors, and hide the resized one.
    """
    first: dict[bytes, int] = {}
    for index, path in enumerate(pictures.paths):
        first.setdefault(pictures.digests[path], index)
    distinct = np.fromiter(first.values(), np.int64, len(first))
    progress.start("comparing", len(distinct), unit="picture")
    try:
        return distinct, find_neighbors(rows[distinct], _NEIGHBORS, progress=progress.advance)
    finally:
        progress.finish()


def _of_all(distinct: Ints, neighbors: Neighbors, count: int) -> Neighbors:
    """Return the neighbors with the numbers of all pictures; later copies have none."""
    indices = np.full((count, neighbors.indices.shape[1]), -1, np.int64)
    similarities = np.full(indices.shape, -np.inf, np.float32)
    found = neighbors.indices >= 0
    indices[distinct] = np.where(found, distinct[neighbors.indices], -1)
    similarities[distinct] = neighbors.similarities
    return Neighbors(indices, similarities)


def _duplicates(
    pictures: CachedPictures,
    neighbors: Neighbors,
    thumbnails: Mapping[Path, Thumbnail],
    progress: Progress,
) -> list[DuplicateGroup]:
    progress.start("finding duplicates", len(candidate_pairs(neighbors)), unit="pair")
    try:
        return find_duplicates(pictures, neighbors, thumbnails, progress=progress.advance)
    finally:
        progress.finish()


def _groups(pictures: CachedPictures, duplicates: Sequence[DuplicateGroup]) -> Ints:
    """Return the number of each picture's group of duplicates, a new one for each single."""
    groups = np.arange(len(pictures))
    index_of = {path: index for index, path in enumerate(pictures.paths)}
    for group in duplicates:
        members = [index_of[path] for path in group.paths]
        groups[members] = members[0]
    return groups


def _suspects(pictures: CachedPictures, errors: LabelErrors) -> list[Suspect]:
    # Scores that are equal to the last digit stay in the order of the data set.
    order = np.argsort(-errors.scores, kind="stable")
    return [
        Suspect(
            path=pictures.paths[index],
            label=pictures.labels[pictures.targets[index]],
            suggested=pictures.labels[errors.suggested[index]],
            score=float(errors.scores[index]),
            likely_wrong=bool(errors.likely_wrong[index]),
            side=pictures.sides[index],
        )
        for index in order
    ]


def _outliers(pictures: CachedPictures, distinct: Ints, neighbors: Neighbors) -> list[Outlier]:
    scores = outlier_scores(pictures.rows[distinct], neighbors)
    unusual = np.flatnonzero(is_unusual(scores))
    return [
        Outlier(
            path=pictures.paths[distinct[index]],
            label=pictures.labels[pictures.targets[distinct[index]]],
            score=float(scores[index]),
        )
        for index in unusual[np.argsort(-scores[unusual], kind="stable")]
    ]
