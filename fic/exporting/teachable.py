"""The statistics of a run's training bottlenecks, from which a device learns more classes."""

from contextlib import closing

import numpy as np

from fic_export.fits.teaching import fit_teaching
from fic_runtime.heads.ood_scores import pooled
from fic_runtime.heads.statistics import Teaching

from ..errors import RunError
from ..progress import Progress
from ..runs import Run
from .cached_bottlenecks import cached_bottlenecks


def teaching_of(run: Run, progress: Progress) -> Teaching:
    """Fit the statistics on the training bottlenecks that the cache has.

    Raises:
        RunError: the cache has none of them, or none of some class.
    """
    found = cached_bottlenecks(run, progress)
    if isinstance(found, str):
        raise RunError(f"{run.folder}: cannot be made teachable: {found}")
    with closing(found):
        train = found.train
        features = np.concatenate([pooled(block) for block in train.blocks()])
        missing = sorted(set(range(len(run.labels))) - set(train.truth.tolist()))
        if missing:
            raise RunError(
                f"{run.folder}: cannot be made teachable, the cache has no training picture of "
                f"{run.labels[missing[0]]!r}; run `fic extract` on the pictures first"
            )
        return fit_teaching(features, train.truth, len(run.labels))
