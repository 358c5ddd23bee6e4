import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.bases import find_base
from fic.bases.models import build_base, copy_base
from fic.data import Source
from fic.errors import BaseOptionError, RunError, TrainingError, WeightsError
from fic.exporting import export_run
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.prediction import evaluate_run, predict_files
from fic.runs import Run
from fic.runs.run import check_run_folder
from fic.training import train
from fic_runtime.classifier import Classifier
from tests.fic.conftest import Fit

pytestmark = pytest.mark.fine_tune

LAYERS = 3
HEAD_ONLY = TrainingOptions(epochs=2, learning_rate=0.001, batch_size=6)
TUNING = replace(HEAD_ONLY, fine_tune=LAYERS, fine_tune_learning_rate=0.003, fine_tune_epochs=2)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, cold_run: Run, shared_photos: Path
) -> tuple[Path, CacheOptions, Source]:
    """Return a folder, a warm cache in it, and the pictures; for all tests of this file."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(cold_run.folder.with_name("as trained"), folder / "cache")
    source = Source(train=shared_photos, val=shared_photos)
    return folder, CacheOptions(bottleneck_dir=folder / "cache"), source


@pytest.fixture(scope="module")
def original(place: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of weights, to be deleted after the training."""
    file = tmp_path_factory.mktemp("weights") / "original.weights.h5"
    build_base(find_base("mobilenet_0.25"), weights="none", size=32, seed=5).save_weights(file)
    return file


@pytest.fixture(scope="module")
def tuned(place: Any, base: BaseOptions, original: Path) -> Run:
    """Return a fine-tuned run whose original weights are gone."""
    folder, cache, source = place
    options = replace(base, weights=str(original))
    run = train(source, out=folder / "run", base=options, cache=cache, options=TUNING)
    original.rename(original.with_name("gone.weights.h5"))
    return run


@pytest.fixture
def fit(place: Any, base: BaseOptions, tmp_path: Path) -> Fit:
    _, cache, source = place

    def run(options: TrainingOptions, name: str = "run", **changes: Any) -> Run:
        given = {"base": base, "cache": cache, **changes}
        return train(source, out=tmp_path / name, options=options, **given)

    return run


def weights_of(model: Any) -> dict[str, list[np.ndarray[Any, Any]]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def test_fine_tuning_lowers_the_validation_loss(tuned: Run) -> None:
    record = tuned.record["fine_tuning"]
    assert record["kept"] is True
    assert record["val_after"]["loss"] < record["val_before"]["loss"]
    assert tuned.metrics["val"]["loss"] == pytest.approx(record["val_after"]["loss"], rel=1e-4)
    assert tuned.record["best_epoch"] >= record["first_epoch"] == 3


def test_the_run_holds_its_own_base(tuned: Run) -> None:
    assert tuned.record["base_weights"] == "base.weights.h5"
    assert (tuned.folder / "base.weights.h5").is_file()
    check_run_folder(tuned.folder)  # another run may replace it


def test_only_the_last_layers_change_and_never_batch_normalization(
    tuned: Run, original: Path
) -> None:
    gone = original.with_name("gone.weights.h5")
    before = weights_of(build_base(find_base("mobilenet_0.25"), weights=str(gone), size=32))
    after = weights_of(tuned.frozen_base().model)
    changed = [
        name
        for name in before
        if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))
    ]
    convolutions = [name for name in before if not name.endswith("_bn")]
    assert changed == convolutions[-LAYERS:] == tuned.record["fine_tuning"]["layers"]


def test_the_report_says_that_the_base_is_another(tuned: Run) -> None:
    report = (tuned.folder / "report.html").read_text(encoding="utf-8")
    assert f"mobilenet_0.25, its last {LAYERS} layers fine-tuned; trained on 24" in report


def test_history_goes_on_where_the_head_ended(tuned: Run) -> None:
    lines = (tuned.folder / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]


def test_a_moved_run_answers_without_the_original_weights(tuned: Run, tmp_path: Path) -> None:
    moved = Run(Path(shutil.copytree(tuned.folder, tmp_path / "elsewhere")))
    answers = moved.validation()
    files = [answer.path for answer in answers]
    predictions = dict(predict_files(moved.folder, files, bottleneck_dir=tmp_path / "cache"))
    for answer in answers:
        prediction: Any = predictions[answer.path]
        assert prediction.label == answer.predicted
        assert prediction.probability == pytest.approx(answer.probability, abs=1e-4)


def test_a_tuned_run_can_be_evaluated(tuned: Run, tmp_path: Path) -> None:
    for answer in tuned.validation():
        folder = tmp_path / "val" / answer.label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(answer.path, folder)
    metrics = evaluate_run(tuned.folder, tmp_path / "val")
    assert metrics["confusion_matrix"] == tuned.metrics["val"]["confusion_matrix"]
    assert metrics["loss"] == pytest.approx(tuned.metrics["val"]["loss"], rel=1e-3)


def test_a_tuned_run_is_exported_with_its_own_base(tuned: Run, tmp_path: Path) -> None:
    manifest = export_run(tuned.folder, out=tmp_path / "bundle")
    assert manifest.origin["weights"] == tuned.record["fingerprint"]["weights"]
    answers = tuned.validation()
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        found = classifier.predict_batch([answer.path for answer in answers])
    assert [each.label for each in found] == [answer.predicted for answer in answers]
    assert [each.probability for each in found] == pytest.approx(
        [answer.probability for answer in answers], abs=1e-4
    )


def test_fine_tuning_leaves_the_cache_of_the_original_base_alone(fit: Fit) -> None:
    before = fit(HEAD_ONLY, name="before")
    tuned = fit(TUNING, name="tuned")
    export_run(tuned.folder, out=tuned.folder.with_name("bundle"))
    after = fit(HEAD_ONLY, name="after")
    assert after.record["cache"] == {"hits": 24, "extracted": 0, "skipped": 0}
    assert after.record["fingerprint"] == before.record["fingerprint"]
    assert tuned.record["fingerprint"] != before.record["fingerprint"]
    assert after.metrics == before.metrics


def test_the_same_seed_gives_the_same_classifier(fit: Fit) -> None:
    one, two = (fit(TUNING, name=name) for name in ("one", "two"))
    assert one.record["fingerprint"]["weights"] == two.record["fingerprint"]["weights"]
    assert one.validation() == two.validation()


def test_fine_tuning_goes_with_omitted_bottlenecks(fit: Fit, place: Any) -> None:
    run = fit(replace(TUNING, omit_bottlenecks=True))
    assert run.record["cache"]["hits"] == 0
    assert run.record["fine_tuning"]["kept"] is True


def test_what_is_no_better_is_not_kept(fit: Fit) -> None:
    plain = fit(HEAD_ONLY, name="plain")
    run = fit(replace(TUNING, fine_tune_learning_rate=3.0, fine_tune_epochs=1))
    assert run.record["fine_tuning"]["kept"] is False
    assert run.record["base_weights"] is None
    assert not (run.folder / "base.weights.h5").exists()
    assert run.record["fingerprint"] == plain.record["fingerprint"]
    for mine, other in zip(run.head().get_weights(), plain.head().get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_loss_that_is_no_number_is_an_error(fit: Fit) -> None:
    with pytest.raises(TrainingError, match="use a smaller --fine-tune-lr than 1e"):
        fit(replace(TUNING, fine_tune_learning_rate=1e38))


@pytest.mark.parametrize(("count", "tensor"), [(28, None), (1, "input_layer")])
def test_more_layers_than_the_base_has_are_refused_before_the_work(
    fit: Fit,
    base: BaseOptions,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    tensor: str | None,
) -> None:
    monkeypatch.setattr("fic.training.pipeline.read_pictures", None)
    with pytest.raises(
        BaseOptionError, match=f"--fine-tune {count}: .* layers that can be trained"
    ):
        fit(replace(TUNING, fine_tune=count), base=replace(base, layer=tensor))


@pytest.mark.parametrize("damage", ["missing", "other", "broken"])
def test_a_run_without_its_weights_says_so(tuned: Run, tmp_path: Path, damage: str) -> None:
    run = Run(Path(shutil.copytree(tuned.folder, tmp_path / "run")))
    file = run.folder / "base.weights.h5"
    file.unlink()
    if damage == "broken":
        file.write_bytes(b"no weights")
    if damage == "other":
        build_base(find_base("mobilenet_0.25"), weights="none", size=32).save_weights(file)
    with pytest.raises((RunError, WeightsError), match=r"base\.weights\.h5"):
        _ = run.frozen_base().model


def test_a_copy_needs_no_layer_that_only_the_weights_of_imagenet_bring() -> None:
    """Those of EfficientNet go with one more layer, which a file of weights does without."""
    row = find_base("efficientnet_b0")
    deviation = np.float32([0.229, 0.224, 0.225])
    released = build_base(row, weights="none", size=32)
    normalization = released.get_layer("normalization")
    mean, _, count = normalization.get_weights()
    normalization.set_weights([mean, deviation, count])
    copy = copy_base(released, row, size=32)
    np.testing.assert_allclose(copy.get_layer("normalization").get_weights()[1], deviation**2)
