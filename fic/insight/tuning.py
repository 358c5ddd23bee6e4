"""`fic tune`: head and weight decay are chosen by cross-validation on cached bottlenecks."""

import time
from dataclasses import replace
from pathlib import Path

from ..data import Source
from ..options import BaseOptions, CacheOptions, StrPath, TrainingOptions
from ..progress import Progress, shown
from ..runs.run import check_run_folder
from ..runs.writing import add_tuning
from ..training import train
from .cached_pictures import read_cached
from .cross_validation import FOLDS, cross_validate, folds_of
from .learning_curve import measure_curve
from .trials import CANDIDATES, Tried, Tuning, choose
from .tuning_page import render_tuning


def tune(
    source: Source | StrPath,
    *,
    out: StrPath | None = Path("run"),
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    options: TrainingOptions | None = None,
    folds: int = FOLDS,
    learning_curve: bool = False,
    progress: Progress | bool | None = None,
) -> Tuning:
    """Try heads and weight decays in folds, choose one, and train a run with it.

    The simplest candidate within one standard error of the best is chosen: Breiman et al.,
    "Classification and Regression Trees" (1984), section 3.4.3. Linear is simpler than a hidden
    layer, fewer units than more, and more weight decay than less.

    Args:
        source: the pictures, or the folder or CSV file of all of them. Both sides of a split are
            tried on together.
        out: folder of the run; None trains none.
        base: base whose bottlenecks are classified.
        cache: how they are extracted and kept.
        options: the rest of the recipe; its head and weight decay are replaced.
        folds: parts, each of which is left out once.
        learning_curve: measure as well what fewer pictures give, and what more would.
        progress: told of each step; by default bars where somebody watches, and False for none.

    Raises:
        DataError: a class has fewer pictures than folds, or there is only one class.
        FicError: see `fic.training.pipeline.train`.
    """
    source = source if isinstance(source, Source) else Source(data=source)
    progress, recipe = shown(progress), options or TrainingOptions()
    if folds < 2:
        raise ValueError(f"{folds} folds leave nothing to train on; give at least 2")
    if out is not None:
        check_run_folder(Path(out))
        source.keep_apart(Path(out))
    base, cache = base or BaseOptions(), cache or CacheOptions()
    found = _tuned(source, base, cache, recipe, folds, progress, learning_curve=learning_curve)
    if out is None:
        return found
    chosen = found.chosen.candidate
    recipe = replace(recipe, head=chosen.head, weight_decay=chosen.weight_decay)
    run = train(source, out=out, base=base, cache=cache, options=recipe, progress=progress)
    found = replace(found, run=run)
    add_tuning(run, found.to_dict(), page=render_tuning(found))
    return found


def _tuned(
    source: Source,
    base: BaseOptions,
    cache: CacheOptions,
    recipe: TrainingOptions,
    folds: int,
    progress: Progress,
    *,
    learning_curve: bool,
) -> Tuning:
    pictures = read_cached(source, base, cache, progress, seed=recipe.seed)
    started = time.perf_counter()
    fold = folds_of(pictures, folds, seed=recipe.seed)
    recipes = [
        replace(recipe, head=each.head, weight_decay=each.weight_decay) for each in CANDIDATES
    ]
    scores = cross_validate(pictures, fold, recipes, progress, what="trying heads")
    tried = [
        Tried(
            candidate=candidate,
            accuracy=score.accuracy,
            standard_error=score.standard_error,
            folds=score.folds.tolist(),
        )
        for candidate, score in zip(CANDIDATES, scores, strict=True)
    ]
    chosen = choose(tried)
    curve = None
    if learning_curve:
        curve = measure_curve(pictures, fold, recipes[tried.index(chosen)], progress)
    return Tuning(
        base=pictures.base,
        pictures=len(pictures),
        classes=len(pictures.labels),
        tried=sorted(tried, key=lambda each: -each.accuracy),
        chosen=chosen,
        curve=curve,
        seconds=time.perf_counter() - started,
        use=pictures.use,
    )
