"""Runs, pictures and caches that were moved to another machine."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fic.bases import find_base
from fic.bases.models import build_base
from fic.data import Source
from fic.errors import DataError, WeightsError
from fic.exporting import export_run
from fic.exporting.whereabouts import moved_source, validation_rows
from fic.options import BaseOptions, ReliabilityOptions
from fic.runs import Run
from fic_export.errors import OutputError


def move(tmp_path: Path, *names: str) -> Path:
    """Move what a training used and wrote; nothing is left where it was."""
    there = tmp_path / "there"
    there.mkdir()
    for name in names:
        (tmp_path / name).rename(there / name)
    return there


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_data_and_cache_suffice_for_all_that_an_export_does(fit: Any, tmp_path: Path) -> None:
    fit()
    there = move(tmp_path, "run", "photos", "cache")
    before = set(tmp_path.iterdir())
    run = Run(there / "run")
    manifest = export_run(
        run,
        out=there / "bundle",
        data=there / "photos",
        bottleneck_dir=there / "cache",
        teachable=True,
        reliability=ReliabilityOptions(false_rejection=0.3),
    )
    assert manifest.parity["pictures"] == len(run.validation())
    assert manifest.calibration["reason"] == "fewer than 50 validation pictures in the cache"
    assert (there / "bundle/teaching.npz").is_file()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["weights", "whole model"])
def test_a_moved_run_needs_no_file_of_weights_that_stayed_behind(
    kind: str, fit: Any, base: BaseOptions, tmp_path: Path
) -> None:
    model = build_base(find_base(base.base_model), weights="none", size=32, seed=5)
    file = tmp_path / "own/mine.weights.h5"
    file.parent.mkdir()
    own = replace(base, weights=str(file))
    model.save_weights(file)
    if kind == "whole model":
        model.save(file.with_name("mine.keras"))
        own = BaseOptions(base_model=str(file.with_name("mine.keras")), pixels="symmetric")
    fit(base=own)
    shutil.rmtree(file.parent)
    there = move(tmp_path, "run", "photos", "cache")
    manifest = export_run(
        there / "run",
        out=there / "bundle",
        data=there / "photos",
        bottleneck_dir=there / "cache",
        reliability=ReliabilityOptions(calibrate=False, known=False),
    )
    assert manifest.parity["top_1_agreement"] == 1
    assert not file.parent.exists()


def test_a_kept_copy_of_weights_is_believed_no_more_than_the_file(
    fit: Any, base: BaseOptions, tmp_path: Path
) -> None:
    file = tmp_path / "mine.weights.h5"
    for seed, name in ((5, file), (6, tmp_path / "others.weights.h5")):
        model = build_base(find_base(base.base_model), weights="none", size=32, seed=seed)
        model.save_weights(name)
    run = fit(base=replace(base, weights=str(file)))
    file.unlink()
    [kept] = (tmp_path / "cache").glob("*/given.weights.h5")
    shutil.copyfile(tmp_path / "others.weights.h5", kept)
    with pytest.raises(WeightsError, match="are not those of the run"):
        Run(run.folder).frozen_base().reference  # noqa: B018 # built when it is asked for


@pytest.mark.parametrize("kind", ["folder", "list", "two folders"])
def test_the_validation_pictures_are_found_in_their_new_place(
    kind: str, fit: Any, photos: Path, list_pictures: Any, tmp_path: Path
) -> None:
    source, data = Source(data=photos, val_split=0.25), "photos"
    if kind == "list":
        data = "photos/list.csv"
        source = Source(data=list_pictures(photos, photos / "list.csv", val=3))
    if kind == "two folders":
        shutil.copytree(photos, tmp_path / "all/held")
        photos.rename(tmp_path / "all/learn")
        source = Source(train=tmp_path / "all/learn", val=tmp_path / "all/held")
        data = "all"
    run = fit(source=source)
    assert moved_source(run, tmp_path / data) is None  # they are where they were
    there = move(tmp_path, data.split("/")[0])
    moved = moved_source(run, there / data)
    rows = validation_rows(run, moved)
    assert len(rows) == len(run.validation())
    assert all(row.path.is_file() and row.path.is_relative_to(there) for row in rows)
    assert moved_source(run, tmp_path / "elsewhere") is None


def test_no_output_is_put_among_the_pictures_of_a_run(cold_run: Run, shared_photos: Path) -> None:
    before = files_of(shared_photos)
    for places in ({"out": shared_photos / "bundle"}, {"triton": shared_photos / "red"}):
        with pytest.raises(OutputError, match="lies inside the pictures"):
            export_run(cold_run, **{"out": cold_run.folder.with_name("b"), **places})
    assert files_of(shared_photos) == before


def test_a_folder_of_outliers_that_is_not_there_is_noticed_at_once(
    cold_run: Run, tmp_path: Path
) -> None:
    options = ReliabilityOptions(foreign=tmp_path / "none")
    with pytest.raises(DataError, match="no such folder; give --foreign a folder"):
        export_run(cold_run, out=tmp_path / "bundle", reliability=options)
