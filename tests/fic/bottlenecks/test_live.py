from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import prepare
from fic.bottlenecks.extraction import bottlenecks_of
from fic.bottlenecks.live import LiveBottlenecks, LivePictures, prepare_live
from fic.data import Pictures, Source, read_pictures
from fic.exporting import export_run
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.prediction import evaluate_run, predict_files
from fic.progress import Silence
from fic.runs import Run
from fic.training.epochs import take_steps
from fic_runtime.errors import ImageError
from tests.fic.conftest import Fit

LIVE = TrainingOptions(epochs=2, batch_size=5, omit_bottlenecks=True)

Live = Callable[..., tuple[LiveBottlenecks, LiveBottlenecks]]


def shards(cache: CacheOptions) -> list[Path]:
    return list(cache.bottleneck_dir.rglob("shard-*.h5"))


@pytest.fixture
def fit(fit: Fit, empty: CacheOptions) -> Fit:
    """Return a function that trains through the whole network; the cache holds no bottleneck."""

    def run(**changes: Any) -> Run:
        return fit(**{"cache": empty, "options": LIVE, **changes})

    return run


@pytest.fixture
def pictures(photos: Path) -> Pictures:
    source = Source(data=photos, val_split=0.25)
    return read_pictures(source, memo=None, seed=0, on_error="skip", progress=Silence())


@pytest.fixture
def live(pictures: Pictures, base: BaseOptions, empty: CacheOptions) -> Live:
    """Return a function that makes live bottlenecks of `photos`."""

    def make(**changes: Any) -> tuple[LiveBottlenecks, LiveBottlenecks]:
        frozen = FrozenBase(base, empty.bottleneck_dir)
        options = replace(empty, batch_size=4, **changes)
        return prepare_live(pictures, frozen, options, Silence())[:2]

    return make


def test_no_bottleneck_is_kept(fit: Fit, empty: CacheOptions) -> None:
    record = fit().record
    assert shards(empty) == []
    assert record["cache"] == {"hits": 0, "extracted": 0, "skipped": 0}
    assert record["training"]["omit_bottlenecks"] is True


def test_a_full_cache_is_not_looked_at(fit: Fit, warm: CacheOptions) -> None:
    assert fit(cache=warm).record["cache"]["hits"] == 0


def test_a_head_learns_the_colours(fit: Fit) -> None:
    run = fit(options=replace(LIVE, epochs=10, learning_rate=0.01))
    assert run.metrics["val"]["accuracy"] >= 0.8


def test_the_same_seed_gives_the_same_head(fit: Fit, photos: Path, tmp_path: Path) -> None:
    source = Source(train=photos, val=photos)
    one, two, other = (
        fit(source=source, out=tmp_path / name, options=replace(LIVE, seed=seed))
        for name, seed in (("one", 4), ("two", 4), ("other", 5))
    )
    for mine, same in zip(one.head().get_weights(), two.head().get_weights(), strict=True):
        np.testing.assert_array_equal(mine, same)
    assert one.metrics == two.metrics != other.metrics


def test_statistics_are_those_of_the_cached_bottlenecks(
    live: Live, pictures: Pictures, base: BaseOptions, warm: CacheOptions
) -> None:
    cached, _, _ = prepare(pictures, FrozenBase(base, warm.bottleneck_dir), warm, Silence())
    with cached.cache:
        expected = np.concatenate(list(cached.for_statistics()))
    found = np.concatenate(list(live()[0].for_statistics()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_validation_takes_the_plain_pictures_in_their_order(
    live: Live, pictures: Pictures, base: BaseOptions, warm: CacheOptions
) -> None:
    _, cached, _ = prepare(pictures, FrozenBase(base, warm.bottleneck_dir), warm, Silence())
    with cached.cache:
        expected = np.concatenate(list(cached.plain()))
    found = np.concatenate(list(live()[1].plain()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("batch_size", [3, 4, 7, 100])
def test_an_epoch_shows_each_picture_once_in_full_batches(live: Live, batch_size: int) -> None:
    data, _ = live()
    batches = list(data.epoch(np.random.default_rng(0), batch_size))
    assert all(len(rows) == len(targets) for rows, targets in batches)
    assert all(len(targets) == batch_size for _, targets in batches[:-1])
    shown = np.concatenate([targets for _, targets in batches])
    assert sorted(shown) == sorted(data.targets)


def test_an_epoch_gives_the_bottleneck_and_the_class_of_each_view_it_drew(live: Live) -> None:
    data, _ = live()
    drawn = data.pictures.augmented(np.random.default_rng(0))
    ((rows, targets),) = data.epoch(np.random.default_rng(0), 100)
    geometry = data.pictures.geometry
    expected = np.concatenate([bottlenecks_of(each, data.engine, geometry) for each in drawn])
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    assert [data.labels[label] for label in targets] == [each.path.parent.name for each in drawn]


def test_each_epoch_shows_other_views(live: Live) -> None:
    data, _ = live()
    random = np.random.default_rng(0)
    epochs = [
        {picture.path: tuple(picture.views) for picture in data.pictures.augmented(random)}
        for _ in range(3)
    ]
    for one, two in pairwise(epochs):
        assert all(one[path] != two[path] for path in one)
    assert all(views != (0,) for epoch in epochs for views in epoch.values())


def test_a_bad_picture_is_listed_once(fit: Fit, photos: Path) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    record = fit(source=Source(train=photos, val=photos)).record
    assert [Path(each["file"]).name for each in record["skipped_files"]] == ["0.jpg"]
    assert record["cache"]["skipped"] == 1
    assert record["images"] == {"train": 23, "val": 23}


def test_a_bad_picture_can_end_the_training(fit: Fit, photos: Path, empty: CacheOptions) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"red/0\.jpg"):
        fit(cache=replace(empty, on_error="fail"))


def test_a_training_picture_that_vanishes_on_the_way_is_left_out_and_listed(live: Live) -> None:
    data, _ = live()
    data.dataset.paths[2].unlink()
    shown: list[int] = []

    def step(_: Any, targets: np.ndarray[Any, Any]) -> tuple[float, float]:
        shown.extend(targets.tolist())
        return 0.0, 0.0

    for seed in (0, 1):
        shown.clear()
        trained = take_steps(step, data.epoch(np.random.default_rng(seed), 5))
        assert len(shown) == len(data) - 1
        assert [picture.path for picture in trained.skipped] == [data.dataset.paths[2]]


def test_a_picture_that_vanishes_in_two_epochs_is_listed_once_in_the_run(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LivePictures.epoch_of

    def vanish(self: LivePictures, *batches: Any) -> Any:
        self.dataset.paths[2].unlink(missing_ok=True)
        return original(self, *batches)

    monkeypatch.setattr(LivePictures, "epoch_of", vanish)
    (skipped,) = fit().record["skipped_files"]
    assert skipped["file"] in skipped["reason"]


@pytest.mark.parametrize(("part", "on_error"), [(1, "skip"), (0, "fail")])
def test_a_picture_that_cannot_be_missed_ends_the_epoch(
    live: Live, part: int, on_error: str
) -> None:
    data = live(on_error=on_error)[part]
    data.dataset.paths[1].unlink()
    batches = data.plain() if part else data.epoch(np.random.default_rng(0), 5)
    with pytest.raises(ImageError, match=data.dataset.paths[1].name):
        list(batches)


def test_an_epoch_without_any_picture_left_is_an_error(live: Live) -> None:
    data, _ = live()
    for path in data.dataset.paths:
        path.unlink()
    with pytest.raises(ImageError, match="nor can any other training picture"):
        list(data.epoch(np.random.default_rng(0), 5))


def test_every_pass_over_the_pictures_has_a_bar(fit: Fit, recorder: Any) -> None:
    run = fit(progress=recorder)
    images = run.record["images"]
    passes = [step for step in recorder.steps if step["title"] in ("training", "validating")]
    assert [step["total"] for step in passes[:4]] == [images["train"], images["val"]] * 2
    assert all(step["ended"] and step["done"] == step["total"] for step in passes)
    assert len(recorder.epochs) == 2


def test_the_run_is_one_like_any_other(fit: Fit, photos: Path, tmp_path: Path) -> None:
    run = fit()
    answers = run.validation()
    predictions = predict_files(run.folder, [answer.path for answer in answers])
    assert {path: each.label for path, each in predictions} == {  # type: ignore[union-attr] # all are readable
        answer.path: answer.predicted for answer in answers
    }
    assert evaluate_run(run.folder, photos)["images"] == 24
    assert export_run(run.folder, out=tmp_path / "bundle").parity["top_1_agreement"] == 1.0


def test_cached_views_and_live_pictures_exclude_each_other(fit: Fit, empty: CacheOptions) -> None:
    with pytest.raises(ValueError, match="drawn anew in each epoch"):
        fit(cache=replace(empty, views=2))
