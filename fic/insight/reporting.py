"""The report of a run that exists: made anew from its files, its pictures and the cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache.keys import make_keys
from ..cache.remote import open_cache
from ..data.file_memo import FileDigests
from ..data.remote import local
from ..data.thumbnails import thumbnail_reader
from ..errors import FicError, RunError, one_line
from ..options import StrPath
from ..runs import Run
from ..runs.report import render_report
from ..runs.report_pictures import ReportPictures, pictures_on_map
from ..runs.run import REPORT_FILE, ValidationRow
from .page_files import check_page, write_page


def report(
    run: Run | StrPath, *, out: StrPath | None = None, bottleneck_dir: StrPath | None = None
) -> Path:
    """Write the report of a run, and return its file.

    Pictures that are gone are left out, and the map of the pictures where the cache does not have
    their bottlenecks any more. Nothing is extracted.

    Args:
        run: the run, or its folder.
        out: file of the page; by default `report.html` in the run's folder. An earlier report is
            replaced, and nothing else.
        bottleneck_dir: the cache, if not the one that the run was trained with.

    Raises:
        RunError: the run cannot be used.
        OutputError: `out` is something else than a report, or cannot be written.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    trained = (
        run if isinstance(run, Run) and bottleneck_dir is None else Run(folder, bottleneck_dir)
    )
    file = folder / REPORT_FILE if out is None else Path(out)
    if out is not None:
        check_page(file)
    results = trained.results()
    pictures = read_report_pictures(trained, results.validation)
    try:
        text = render_report(results, pictures)
    # Figures may be a stranger's: anything may stand where a number belongs.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder}: its figures make no sense ({one_line(error)}); train again"
        ) from error
    write_page(file, text)
    return file


def read_report_pictures(run: Run, validation: Sequence[ValidationRow]) -> ReportPictures:
    """Return what is still there of the validation pictures of a run, and of their bottlenecks."""
    cache = run.cache_options
    # Without a cache there is no place for memos either: nothing of it is made anew here.
    there = local(cache.bottleneck_dir).is_dir()
    with FileDigests(cache.memo if there else None) as files:
        digests = files.digests(row.path for row in validation).digests
    read = thumbnail_reader(digests, cache.thumbnails if there else None)
    shown = [
        index for index in pictures_on_map(len(validation)) if validation[index].path in digests
    ]
    rows = _cached_rows(run, [digests[validation[index].path] for index in shown])
    if rows is None:
        return ReportPictures(thumbnails=read)
    found = {index: row for index, row in zip(shown, rows, strict=True) if row is not None}
    return ReportPictures(
        thumbnails=read,
        shown=list(found),
        bottlenecks=np.stack(list(found.values())) if found else None,
    )


def _cached_rows(run: Run, digests: Sequence[bytes]) -> list[NDArray[Any] | None] | None:
    """Return the bottleneck of each content, None where the cache lacks it; None without cache."""
    directory = run.cache_options.bottleneck_dir
    try:
        fingerprint = run.frozen_base().fingerprint
        if not digests or not (local(directory) / fingerprint.folder_name).is_dir():
            return None
        with open_cache(directory, fingerprint) as cache:
            rows = cache.find(make_keys([(digest, 0) for digest in digests]))
            there = np.flatnonzero(rows >= 0)
            maps = cache.read(rows[there])
    except FicError:
        return None  # the base or the cache is gone: the page can do without the map
    flat = maps.reshape(len(maps), -1, fingerprint.shape[-1]).mean(axis=1)
    found: Mapping[int, NDArray[Any]] = dict(zip(there.tolist(), flat, strict=True))
    return [found.get(index) for index in range(len(digests))]
