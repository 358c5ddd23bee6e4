"""Accuracy of a recipe on pictures that neither trained nor stopped it, in folds."""

import math
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from fic_runtime.devices import usable_cpus

from ..errors import DataError, TrainingError
from ..options import TrainingOptions
from ..progress import Progress
from ..training.arrays import ArrayData, fit_head
from .cached_pictures import CachedPictures
from .label_errors import assign_folds, check_folds
from .logistic import Floats, Ints

FOLDS = 5
# Of a fold's training pictures, those that decide when its training stops.
_STOPPING = 0.1
# Up to here the sign test is exact; above, the normal distribution is as good.
_MOST_EXACT = 1000

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_WORK: list[Callable[[Any], Any]] = []  # of a process that was forked for it


@dataclass(frozen=True)
class Score:
    """What folds say of a recipe.

    Attributes:
        folds: accuracy in each fold, (folds,).
        right: whether each picture was answered rightly while it was left out, bool (n,).
    """

    folds: Floats
    right: Ints

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the folds."""
        return float(self.folds.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of that mean."""
        return float(self.folds.std(ddof=1) / math.sqrt(len(self.folds)))


def folds_of(pictures: CachedPictures, folds: int, *, seed: int) -> Ints:
    """Return the fold of each picture, (n,); pictures of the same content share one.

    Raises:
        DataError: a class has fewer pictures than there are folds, or there is one class only.
    """
    if len(pictures.labels) < 2:
        (only,) = pictures.labels
        raise DataError(f"{only!r} is the only class; give at least two to choose between")
    counts = np.bincount(pictures.targets, minlength=len(pictures.labels)).tolist()
    check_folds(counts, pictures.labels, folds)
    contents = [pictures.digests[path] for path in pictures.paths]
    groups = np.unique(np.array(contents), return_inverse=True)[1]
    return assign_folds(pictures.targets, groups, folds, seed=seed)


def cross_validate(
    pictures: CachedPictures,
    fold: Ints,
    recipes: Sequence[TrainingOptions],
    progress: Progress,
    *,
    what: str,
) -> list[Score]:
    """Return the score of each recipe on the same folds.

    Args:
        pictures: with their bottlenecks.
        fold: of each picture; see `folds_of`.
        recipes: how heads are trained.
        progress: told of each head.
        what: what the heads are for, in the words of a progress bar.
    """
    numbers = np.unique(fold).tolist()
    jobs = [(recipe, number) for recipe in range(len(recipes)) for number in numbers]
    right = np.zeros((len(recipes), len(pictures)), bool)

    def work(job: tuple[int, int]) -> Ints:
        recipe, number = job
        train, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        return answered_rightly(pictures, train, held, recipes[recipe])

    found = side_by_side(work, jobs, progress, what=what)
    for (recipe, number), answers in zip(jobs, found, strict=True):
        right[recipe, fold == number] = answers
    return [
        Score(np.array([own[fold == number].mean() for number in numbers]), own) for own in right
    ]


def answered_rightly(
    pictures: CachedPictures, train: Ints, held: Ints, recipe: TrainingOptions
) -> Ints:
    """Train a head on some pictures and return what it gets right of others, bool (held,).

    Args:
        pictures: with their bottlenecks.
        train: rows to train on; a tenth of each class decides when to stop instead.
        held: rows to answer.
        recipe: how the head is trained.
    """
    data = ArrayData(pictures.rows, pictures.targets, pictures.labels)
    stopping = _stopping(pictures.targets[train], seed=recipe.seed)
    fitted = data.part(train[~stopping])
    judge = data.part(train[stopping]) if stopping.any() else fitted
    head = fit_head(fitted, judge, recipe).model
    answers = np.concatenate([head.predict_on_batch(block) for block in data.part(held).plain()])
    return np.asarray(answers.argmax(axis=1) == pictures.targets[held])


def side_by_side(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], progress: Progress, *, what: str
) -> list[_Result]:
    """Return the result of each job; as many are done at once as there are processors.

    In processes where they can be forked, which need no copy of the bottlenecks: of the small steps
    of a head, threads of one process would spend most time in waiting for each other.

    Raises:
        TrainingError: one of the processes was ended from outside.
    """
    progress.start(what, len(jobs), unit="head")
    with threadpool_limits(1, "blas"), _pool(work) as pool:
        do = _forked if isinstance(pool, ProcessPoolExecutor) else work
        futures = [pool.submit(do, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(1)
        except BrokenProcessPool as error:
            raise TrainingError(
                f"{what}: a process was ended from outside, perhaps for want of memory; free some "
                "and run again"
            ) from error
        finally:
            for future in futures:
                future.cancel()
            progress.finish()
    return [future.result() for future in futures]


def _pool(work: Callable[[Any], Any]) -> Executor:
    # macOS can fork, but what its own libraries started in the parent does not outlive that.
    if usable_cpus() > 1 and sys.platform == "linux":
        context = multiprocessing.get_context("fork")
        # The work goes with the fork: a function within a function cannot be sent.
        return ProcessPoolExecutor(
            usable_cpus(), mp_context=context, initializer=_remember, initargs=(work,)
        )
    return ThreadPoolExecutor(usable_cpus(), thread_name_prefix="fold")


def _remember(work: Callable[[Any], Any]) -> None:
    _WORK.append(work)


def _forked(job: Any) -> Any:
    return _WORK[-1](job)


def chance_of_no_difference(first: Ints, second: Ints) -> float:
    """Return the p-value of McNemar's test, in the exact form of a two-sided sign test.

    It looks at the pictures that one of two classifiers gets right and the other wrong: Dietterich,
    "Approximate statistical tests for comparing supervised classification learning algorithms",
    Neural Computation 10 (1998), section 3.1.

    Args:
        first: what one gets right, bool (n,).
        second: what the other gets right, of the same pictures.
    """
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    total, less = one + other, min(one, other)
    if not total:
        return 1.0
    if total > _MOST_EXACT:
        distance = max(0.0, abs(one - other) - 1) / math.sqrt(total)
        return math.erfc(distance / math.sqrt(2))
    tail = sum(math.comb(total, count) for count in range(less + 1)) / 2**total
    return float(min(1.0, 2 * tail))


def _stopping(targets: Ints, *, seed: int) -> Ints:
    """Return which pictures decide when to stop: a tenth of each class, bool (n,)."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(targets), bool)
    for target in np.unique(targets):
        own = random.permutation(np.flatnonzero(targets == target))
        chosen[own[: round(_STOPPING * len(own))]] = True
    return chosen
