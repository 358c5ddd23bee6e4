"""`fic train`, from pictures to a run folder."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fic_export.errors import OutputError

from ..bases.frozen import FrozenBase
from ..bottlenecks import prepare
from ..bottlenecks.live import live_pictures, prepare_live
from ..data import Source, read_pictures
from ..data.dataset import each_once
from ..errors import DataError, HeadError
from ..fingerprint import Fingerprint
from ..heads.building import parse_head
from ..heads.keras_files import check_files, save_files
from ..options import BaseOptions, CacheOptions, TrainingOptions
from ..progress import Progress, Silence
from ..runs import Run, write_run
from ..runs.report import render_report
from ..runs.run import Answer, check_run_folder
from .data import TrainingData
from .metrics import evaluate
from .record import run_record
from .starting_head import EarlierHead, starting_head

if TYPE_CHECKING:
    from .fine_tuning import FineTuned


def train(
    source: Source,
    *,
    out: Path,
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    weight_file: Path | None = None,
    label_file: Path | None = None,
) -> Run:
    """Train a head on the bottlenecks of a frozen base and write the run folder.

    Args:
        weight_file: the head goes there as well: `.keras`, `.h5`, or `.weights.h5` for its weights.
        label_file: JSON file for a map from label to index, besides the run's `labels.txt`.

    Raises:
        DataError: the pictures cannot be used.
        UnknownBaseError, WeightsError: the base cannot be built.
        BaseOptionError: the base cannot be cut or fine-tuned like this.
        CacheError: the bottleneck cache cannot be used.
        OutputError: `out` holds something that is not a run, or a file cannot be written there.
    """
    base, cache = base or BaseOptions(), cache or CacheOptions()
    options, progress = options or TrainingOptions(), progress or Silence()
    started = time.perf_counter()
    if options.omit_bottlenecks and cache.views > 1:
        raise ValueError("views are drawn anew in each epoch where bottlenecks are omitted")
    _check_outputs(source, out, cache, options, *filter(None, (weight_file, label_file)))
    check_files(weight_file, label_file)
    earlier = EarlierHead.of(options)
    base = _for_head(base, options)
    frozen = FrozenBase(base, cache.bottleneck_dir, dtype=cache.dtype)
    if options.fine_tune:
        from .fine_tuning import check_layers

        check_layers(frozen, options.fine_tune)
    pictures = read_pictures(
        source,
        memo=cache.memo,
        seed=options.seed,
        on_error=cache.on_error,
        progress=progress,
    )
    found = pictures.train.labels
    if earlier is not None:
        pictures = pictures.with_labels(earlier.labels(found))
    prepare_parts = prepare_live if options.omit_bottlenecks else prepare
    train_part, val_part, use = prepare_parts(pictures, frozen, cache, progress)
    _check_readable(train_part, val_part, found)

    # Keras comes with TensorFlow, whose import costs seconds: last, so that errors come first.
    import keras

    from .head import probabilities, train_head

    training_started = time.perf_counter()
    keras.utils.set_random_seed(options.seed)
    head = starting_head(train_part, frozen, options)
    trained = train_head(head, train_part, val_part, options, progress)
    training_seconds = time.perf_counter() - training_started
    tuned = None
    if options.fine_tune:
        from .fine_tuning import fine_tune

        live_train, live_val = (
            live_pictures(part.dataset, pictures, frozen, cache, progress)
            for part in (train_part, val_part)
        )
        tuned = fine_tune(frozen, trained, live_train, live_val, options, progress)
        trained = tuned.head
    use = replace(use, skipped=each_once([*use.skipped, *trained.skipped]))
    answers = probabilities(trained.model, val_part) if tuned is None else tuned.answers
    metrics = {"val": evaluate(answers, val_part.targets, val_part.labels)}
    validation = _answers(answers, val_part)
    history = [asdict(figures) for figures in trained.history]
    record = run_record(
        base=replace(base, base_model=frozen.spec.name),
        fingerprint=_fingerprint(frozen, tuned),
        cache=cache,
        options=options,
        source=source,
        images={"train": len(train_part), "val": len(val_part)},
        best_epoch=trained.best_epoch,
        fine_tuning=None if tuned is None else tuned.record,
        use=use,
        seconds={
            "extract": use.seconds,
            "train": training_seconds,
            "total": time.perf_counter() - started,
        },
    )
    train_part.close()
    run = write_run(
        out,
        record=record,
        metrics=metrics,
        history=history,
        labels=train_part.labels,
        head=trained.model,
        base=None if tuned is None else tuned.base,
        validation=validation,
        report=render_report(record, metrics, history, validation),
    )
    save_files(trained.model, train_part.labels, weight_file=weight_file, label_file=label_file)
    return run


def _fingerprint(base: FrozenBase, tuned: "FineTuned | None") -> Fingerprint:
    """Return that of the run's base: a tuned one has a cache folder of its own."""
    if tuned is None or tuned.base is None:
        return base.fingerprint
    from ..bases.models import weights_digest

    return replace(base.fingerprint, weights=weights_digest(tuned.base))


def _check_outputs(
    source: Source, out: Path, cache: CacheOptions, options: TrainingOptions, *files: Path
) -> None:
    """Find out before the work begins that its results have no place."""
    outputs = [cache.bottleneck_dir, *([] if options.logs is None else [options.logs]), *files]
    source.keep_apart(out, *outputs)
    check_run_folder(out)
    for place in outputs:
        if place.resolve().is_relative_to(out.resolve()):
            raise OutputError(
                f"{place}: lies inside the run folder {out}, which a later run replaces; "
                "give a place beside it"
            )
    if options.logs is not None:
        options.logs.mkdir(parents=True, exist_ok=True)


def _for_head(base: BaseOptions, options: TrainingOptions) -> BaseOptions:
    """Check `--head` before any work is done; the rest of a base takes maps as they are."""
    if parse_head(options.head or "linear").kind != "rest":
        return base
    if base.layer is None:
        raise HeadError(
            "--head rest: nothing of the base is left after its last layer; say with "
            "--bottleneck-tensorname where the rest begins"
        )
    return replace(base, pooling="none")


def _check_readable(train: TrainingData, val: TrainingData, found: Sequence[str]) -> None:
    """Refuse to train where skipping left a class, or the validation, without a picture."""
    for name, count in zip(train.labels, train.dataset.counts, strict=True):
        if name in found and not count:
            raise DataError(
                f"class {name!r}: none of its training pictures could be read; replace them or "
                "remove the class (--on-error fail says why)"
            )
    if not len(val):
        raise DataError(
            "none of the validation pictures could be read; replace them (--on-error fail says why)"
        )


def _answers(probabilities: np.ndarray[Any, Any], part: TrainingData) -> list[Answer]:
    return [
        Answer(
            path=path.absolute(),
            label=part.labels[targets],
            predicted=part.labels[int(row.argmax())],
            probability=float(row.max()),
        )
        for path, targets, row in zip(
            part.dataset.paths, part.dataset.targets, probabilities, strict=True
        )
    ]
