"""`fic train`, from pictures to a run folder: check, prepare, fit, record."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fic_export.errors import OutputError
from fic_runtime.results import check_writable, real_path

from ..bases.keras_setup import keras_settings
from ..bases.opening import AnyBase, open_base
from ..bottlenecks import prepare
from ..bottlenecks.cached import Bottlenecks, CacheUse
from ..bottlenecks.live import live_pictures, prepare_live
from ..data import Pictures, Source, read_pictures
from ..data.dataset import each_once
from ..data.thumbnails import thumbnail_reader
from ..distributed import first_reading
from ..errors import DataError, HeadError
from ..fingerprint import Fingerprint
from ..heads.building import parse_head
from ..heads.keras_files import check_files, save_files
from ..options import BaseOptions, CacheOptions, StrPath, TrainingOptions
from ..progress import Progress, shown
from ..runs import Run, write_run
from ..runs.report import render_report
from ..runs.report_pictures import ReportPictures, pictures_on_map
from ..runs.run import RUN_FILE, RunResults, ValidationRow, check_run_folder, previous_run
from .data import TrainingData
from .head import TrainedHead, train_head, validation_answers
from .metrics import Answers, figures_of
from .record import TrainingRequest, run_record
from .starting_head import EarlierHead, starting_head

if TYPE_CHECKING:
    from .fine_tuning import FineTuned


@keras_settings()
def train(
    source: Source | StrPath,
    *,
    out: StrPath,
    base: BaseOptions | None = None,
    cache: CacheOptions | None = None,
    options: TrainingOptions | None = None,
    progress: Progress | bool | None = None,
    weight_file: StrPath | None = None,
    label_file: StrPath | None = None,
) -> Run:
    """Train a head on the bottlenecks of a frozen base and write the run folder.

    Args:
        source: the pictures; a folder or CSV file stands for `Source(data=…)`.
        out: the run folder; an earlier run there goes to a folder beside it, `OUT.previous`.
        base: which base, and where it is cut.
        cache: how bottlenecks are extracted and kept.
        options: how the head is trained.
        progress: told of each step; by default bars where somebody watches, and False for none.
        weight_file: the head goes there as well: `.keras`, `.h5`, or `.weights.h5` for its weights.
        label_file: JSON file for a map from label to index, besides the run's `labels.txt`.

    Raises:
        DataError: the pictures cannot be used.
        UnknownBaseError, WeightsError: the base cannot be built.
        BaseOptionError: the base cannot be cut or fine-tuned like this.
        HeadError: the head cannot be built or loaded, or does not fit.
        CacheError: the bottleneck cache cannot be used.
        TrainingError: the loss is not a number any more.
        ImageError: a picture cannot be decoded, and `cache` says to stop then.
        OutputError: `out` holds something that is not a run, or a file cannot be written there.
    """
    started = time.perf_counter()
    request = TrainingRequest(
        source=source if isinstance(source, Source) else Source(data=source),
        base=base or BaseOptions(),
        cache=cache or CacheOptions(),
        options=options or TrainingOptions(),
    )
    out, progress = Path(out), shown(progress)
    files = {
        "weight_file": None if weight_file is None else Path(weight_file),
        "label_file": None if label_file is None else Path(label_file),
    }
    request, frozen, earlier = _check(request, out, **files)
    parts = _prepare(request, frozen, earlier, progress)
    earlier_run = (out / RUN_FILE).is_file()
    try:
        fitted = _fit(request, frozen, parts, progress)

        def results() -> tuple[RunResults, str]:
            found = _results(request, frozen, parts, fitted, started)
            return found, render_report(found, _report_pictures(parts, request.cache))

        run = write_run(
            out,
            results,
            labels=parts.train.labels,
            head=fitted.trained.model,
            base=None if fitted.tuned is None else fitted.tuned.base,
            spare=request.cache.bottleneck_dir,
        )
    finally:
        parts.train.close()
    if earlier_run:
        progress.note(f"the earlier run is kept in {previous_run(out)} until the next training")
    try:
        save_files(fitted.trained.model, parts.train.labels, **files)
    except OutputError as error:
        raise OutputError(f"{error}; the run itself is whole, in {out}") from error
    return run


def _check(
    request: TrainingRequest, out: Path, *, weight_file: Path | None, label_file: Path | None
) -> tuple[TrainingRequest, AnyBase, EarlierHead | None]:
    """Check options and outputs before the work begins.

    Returns:
        The request as its head needs it, its base, and the head that it goes on from.
    """
    options, cache = request.options, request.cache
    if options.omit_bottlenecks and cache.views > 1:
        raise ValueError("views are drawn anew in each epoch where bottlenecks are omitted")
    _check_outputs(request, out, *filter(None, (weight_file, label_file)))
    check_files(weight_file, label_file)
    earlier = EarlierHead.of(options)
    request = replace(request, base=_for_head(request.base, options))
    frozen = open_base(request.base, cache.bottleneck_dir, dtype=cache.dtype)
    if not frozen.in_keras and parse_head(options.head or "linear").kind == "rest":
        frozen.build_rest()  # which says why there is none
    if options.fine_tune:
        from .fine_tuning import check_layers

        check_layers(frozen, options.fine_tune)
    return request, frozen, earlier


def _check_outputs(request: TrainingRequest, out: Path, *files: Path) -> None:
    """Find out before the work begins whether its results can be written."""
    logs = request.options.logs
    outputs = [request.cache.bottleneck_dir, *([] if logs is None else [logs]), *files]
    request.source.keep_apart(out, *outputs)
    check_run_folder(out)
    for path in outputs:
        if real_path(path).is_relative_to(real_path(out)):
            raise OutputError(
                f"{path}: lies inside the run folder {out}, which a later run replaces; "
                "give a path beside it"
            )
    if logs is not None:
        check_writable(logs / "train")
        logs.mkdir(parents=True, exist_ok=True)


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


@dataclass(frozen=True)
class _Parts:
    """Training and validation pictures, as bottlenecks."""

    pictures: Pictures
    train: TrainingData
    val: TrainingData
    use: CacheUse


def _prepare(
    request: TrainingRequest,
    frozen: AnyBase,
    earlier: EarlierHead | None,
    progress: Progress,
) -> _Parts:
    """Read and split the pictures, and make their bottlenecks."""
    options, cache = request.options, request.cache
    reading = (
        None
        if options.omit_bottlenecks
        else first_reading(frozen, request.source, cache, seed=options.seed)
    )
    pictures = read_pictures(
        request.source,
        memo=cache.memo,
        seed=options.seed,
        on_error=cache.on_error,
        progress=progress,
        reader=reading,
    )
    found = pictures.train.labels
    if earlier is not None:
        pictures = pictures.with_labels(earlier.labels(found))
    train: TrainingData
    val: TrainingData
    if options.omit_bottlenecks:
        train, val, use = prepare_live(pictures, frozen, cache, progress)
    else:
        train, val, use = prepare(pictures, frozen, cache, progress, reading)
    _check_readable(train, val, found)
    return _Parts(pictures, train, val, use)


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


@dataclass(frozen=True)
class _Fitted:
    """The head, the base if it was tuned, and their answers for the validation pictures.

    `seconds` are those of the head's training.
    """

    trained: TrainedHead
    tuned: "FineTuned | None"
    answers: Answers
    seconds: float


def _fit(request: TrainingRequest, frozen: AnyBase, parts: _Parts, progress: Progress) -> _Fitted:
    """Train the head, and the last layers of the base if that was asked for."""
    started = time.perf_counter()
    options = request.options
    head = starting_head(parts.train, frozen, options)
    trained = train_head(head, parts.train, parts.val, options, progress)
    seconds = time.perf_counter() - started
    if not options.fine_tune:
        return _Fitted(trained, None, validation_answers(trained.model, parts.val), seconds)
    from .fine_tuning import fine_tune

    train, val = (
        live_pictures(part.dataset, parts.pictures, frozen, request.cache, progress)
        for part in (parts.train, parts.val)
    )
    tuned = fine_tune(frozen, trained, train, val, options, progress)
    return _Fitted(tuned.head, tuned, tuned.answers, seconds)


def _results(
    request: TrainingRequest, frozen: AnyBase, parts: _Parts, fitted: _Fitted, started: float
) -> RunResults:
    """Measure the classifier on the validation pictures and record the training."""
    record = run_record(
        replace(request, base=replace(request.base, base_model=frozen.base_model)),
        fingerprint=_fingerprint(frozen, fitted.tuned),
        images={"train": len(parts.train), "val": len(parts.val)},
        best_epoch=fitted.trained.best_epoch,
        fine_tuning=None if fitted.tuned is None else fitted.tuned.record,
        use=replace(parts.use, skipped=each_once([*parts.use.skipped, *fitted.trained.skipped])),
        seconds={
            "extract": parts.use.seconds,
            "train": fitted.seconds,
            "total": time.perf_counter() - started,
        },
    )
    return RunResults(
        record=record,
        metrics={"val": figures_of(fitted.answers, parts.val.labels)},
        history=[asdict(figures) for figures in fitted.trained.history],
        validation=_rows(fitted.answers, parts.val),
    )


def _fingerprint(base: AnyBase, tuned: "FineTuned | None") -> Fingerprint:
    """Return that of the run's base: a tuned one has a cache folder of its own."""
    if tuned is None or tuned.base is None:
        return base.fingerprint
    from ..bases.models import weights_digest

    return replace(base.fingerprint, weights=weights_digest(tuned.base))


def _report_pictures(parts: _Parts, cache: CacheOptions) -> ReportPictures:
    """Return what the report shows of the validation pictures beside their figures."""
    known = parts.pictures.digests
    digests = {path.absolute(): known[path] for path in parts.val.dataset.paths if path in known}
    shown = pictures_on_map(len(parts.val))
    rows = parts.val.plain_rows(shown) if isinstance(parts.val, Bottlenecks) else None
    return ReportPictures(
        thumbnails=thumbnail_reader(digests, cache.thumbnails), shown=shown, bottlenecks=rows
    )


def _rows(answers: Answers, part: TrainingData) -> list[ValidationRow]:
    return [
        ValidationRow(
            path=path.absolute(),
            label=part.labels[target],
            predicted=part.labels[predicted],
            probability=probability,
        )
        for path, target, predicted, probability in zip(
            part.dataset.paths,
            part.dataset.targets,
            answers.predicted.tolist(),
            answers.probability.tolist(),
            strict=True,
        )
    ]
