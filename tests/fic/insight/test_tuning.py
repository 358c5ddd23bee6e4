import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fic
from fic.bottlenecks.cached import CacheUse
from fic.cli import cli
from fic.data import Source
from fic.errors import DataError, TrainingError
from fic.insight.cached_pictures import CachedPictures
from fic.insight.cross_validation import (
    chance_of_no_difference,
    cross_validate,
    folds_of,
    side_by_side,
)
from fic.insight.learning_curve import extrapolated, measure_curve
from fic.insight.trials import Candidate, Tried, choose
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.progress import Silence
from fic_runtime.devices import usable_cpus
from tests.conftest import MakePhotos

WIDTH = 12


def pictures(counts: Mapping[str, int], *, spread: float = 0.3, seed: int = 0) -> CachedPictures:
    """Return bottlenecks around a centre for each class."""
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), list(counts.values()))
    centres = np.random.default_rng(1).normal(size=(len(counts), WIDTH))
    paths = [Path(f"{number}.jpg") for number in range(len(targets))]
    rows = centres[targets] + spread * random.normal(size=(len(targets), WIDTH))
    return CachedPictures(
        base="any",
        paths=paths,
        targets=targets,
        labels=tuple(counts),
        sides=["train"] * len(paths),
        digests={path: path.name.encode() for path in paths},
        rows=rows.astype(np.float32),
        use=CacheUse(hits=len(paths), extracted=0, seconds=0.0, engine=None, skipped=()),
    )


def tried(head: str, decay: float, accuracy: float, error: float = 0.01) -> Tried:
    units = 64 if head == "mlp:64" else 0
    return Tried(
        candidate=Candidate(head=head, weight_decay=decay, units=units),
        accuracy=accuracy,
        standard_error=error,
        folds=[accuracy] * 5,
    )


def test_the_simplest_within_a_standard_error_of_the_best_is_chosen() -> None:
    heads = [
        tried("mlp:64", 0.05, 0.920),
        tried("linear", 0.01, 0.915),
        tried("linear", 0.10, 0.911),
        tried("linear", 1.00, 0.909),
    ]
    assert choose(heads) == heads[2]
    assert choose([tried("mlp:64", 0.05, 0.95), *heads[1:]]).candidate.units == 64


def test_a_head_is_measured_on_pictures_that_it_has_not_seen() -> None:
    shown = pictures({"a": 30, "b": 30, "c": 30})
    blurred = pictures({"a": 30, "b": 30, "c": 30}, spread=1000.0)
    recipe = TrainingOptions(weight_decay=1e-4)
    for own, low, high in ((shown, 0.9, 1.0), (blurred, 0.1, 0.6)):
        fold = folds_of(own, 5, seed=0)
        (score,) = cross_validate(own, fold, [recipe], Silence(), what="heads")
        assert low <= score.accuracy <= high
        assert len(score.folds) == 5


@pytest.mark.skipif(usable_cpus() < 2 or sys.platform != "linux", reason="trains in one process")
def test_a_process_that_dies_is_one_sentence() -> None:
    parent = os.getpid()

    def work(_: int) -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(TrainingError, match="trying heads: a process was ended from outside"):
        side_by_side(work, [1, 2, 3], Silence(), what="trying heads")


def test_the_same_content_is_in_one_fold() -> None:
    own = pictures({"a": 20, "b": 20})
    twice = {path: own.digests[own.paths[0]] for path in own.paths[:3]}
    same = CachedPictures(**{**vars(own), "digests": {**own.digests, **twice}})
    fold = folds_of(same, 4, seed=0)
    assert len(set(fold[:3])) == 1
    assert np.bincount(fold).min() >= 8


def test_a_class_with_fewer_pictures_than_folds_is_refused() -> None:
    with pytest.raises(DataError, match=r"'b': has 3 readable pictures, fewer than the 5 folds"):
        folds_of(pictures({"a": 20, "b": 3}), 5, seed=0)


@pytest.mark.parametrize(
    ("one", "other", "chance"), [(0, 0, 1.0), (5, 0, 0.0625), (3, 3, 1.0), (1200, 900, 0.0)]
)
def test_pictures_that_one_of_two_gets_right_tell_them_apart(
    one: int, other: int, chance: float
) -> None:
    both = [True] * 50
    first = np.array([*both, *[True] * one, *[False] * other])
    second = np.array([*both, *[False] * one, *[True] * other])
    assert chance_of_no_difference(first, second) == pytest.approx(chance, abs=1e-6)


def test_the_band_holds_what_twice_the_photos_give() -> None:
    sizes = np.array([50, 100, 200, 300, 400.0])
    held = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(scale=0.01, size=(5, 5))
        errors = (0.04 + 1.2 * sizes**-0.6)[:, None] + noise
        low, high = extrapolated(sizes, errors, 800)
        assert 0 <= low <= high <= 1
        held += low <= 1 - (0.04 + 1.2 * 800**-0.6) <= high
    assert 12 <= held < 20  # 80 % of 20 are meant


def test_a_learning_curve_rises_where_photos_help() -> None:
    own = pictures({"a": 60, "b": 60, "c": 60}, spread=1.6)
    fold = folds_of(own, 4, seed=0)
    curve = measure_curve(own, fold, TrainingOptions(weight_decay=0.01), Silence())
    assert [round(point.pictures) for point in curve.points] == [18, 33, 66, 102, 135]
    assert curve.points[-1].accuracy > curve.points[0].accuracy
    assert {point.label for point in curve.classes} == {"a", "b", "c"}
    assert f"{100 * curve.low:.1f}" in curve.sentence()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_photos: MakePhotos) -> Path:
    return make_photos(tmp_path_factory.mktemp("tuning") / "photos", 10)


def test_a_run_is_trained_on_what_was_chosen(photos: Path, base: BaseOptions) -> None:
    found = fic.tune(
        Source(data=photos),
        out=photos.with_name("run"),
        base=base,
        cache=CacheOptions(bottleneck_dir=photos.with_name("cache")),
        folds=3,
        learning_curve=True,
        progress=False,
    )
    assert found.run is not None
    record = json.loads((found.run.folder / "run.json").read_text("utf-8"))
    assert record["training"]["head"] == found.chosen.candidate.head
    assert record["training"]["weight_decay"] == found.chosen.candidate.weight_decay
    assert record["tuning"]["chosen"]["weight_decay"] == found.chosen.candidate.weight_decay
    assert len(record["tuning"]["tried"]) >= 12
    page = (found.run.folder / "tuning.html").read_text("utf-8")
    assert "Would more photos help?" in page
    assert repr(found).startswith(f"<Tuning: {found.chosen.candidate.head} with weight decay")


def test_one_text_is_not_a_series_of_bases(photos: Path) -> None:
    with pytest.raises(TypeError, match="base_models is a series of names; received 'resnet50'"):
        fic.compare(photos, "resnet50")


def test_bases_are_compared_on_the_same_folds(photos: Path, base: BaseOptions) -> None:
    out = photos.with_name("comparison.html")
    (photos / "red/notes.txt").write_text("no picture", "utf-8")
    found = fic.compare(
        photos,
        ["mobilenet_0.25", "mobilenet_v2_0.35"],
        out=out,
        base=BaseOptions(weights="none", image_size=32),
        cache=CacheOptions(bottleneck_dir=photos.with_name("cache")),
        folds=3,
        progress=False,
    )
    assert {row.base for row in found.rows} == {"mobilenet_0.25", "mobilenet_v2_0.35"}
    assert found.recommended in {row.base for row in found.rows if row.alike}
    assert any(row.pareto for row in found.rows)
    assert all(row.milliseconds > 0 and row.images_per_second > 0 for row in found.rows)
    assert found.recommended in found.reason
    assert repr(found).startswith("<Comparison: mobilenet_") and found.reason in repr(found)
    assert found.use.files.line() == "Used 30 of 31 files; left out: 1 .txt"
    json.dumps({**found.to_dict(), **found.use.files_record()})
    assert f"Take {found.recommended}" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "--data", "photos", "--base-models", "resnet50"], "at least two bases"),
        (["compare", "--data", "photos", "--base-models", "a,,b"], "names nothing"),
        (["tune", "--data", "nowhere"], "nowhere"),
        (["tune", "--data", "photos", "--folds", "1"], "--folds"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code != 0
    assert said in (result.output + str(result.exception))
