import shutil
from pathlib import Path
from typing import Any

import pytest

from fic.errors import DataError
from fic.progress import Silence
from fic.source import Source, read_digests, read_pictures, split_folder


def read(source: Source, **options: Any) -> Any:
    given = {"memo": None, "seed": 0, "on_error": "skip", "progress": Silence(), **options}
    return read_pictures(source, **given)


@pytest.mark.parametrize(
    "folders",
    [{}, {"train": Path("a")}, {"val": Path("a")}, {"data": Path("a"), "train": Path("b")}],
)
def test_a_source_is_one_folder_or_two(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="either data, or both train and val"):
        Source(**folders)


def test_a_source_holds_in_every_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Source(train=Path("a"), val=Path("b"), val_split=0.3).absolute()
    assert source == Source(train=tmp_path / "a", val=tmp_path / "b", val_split=0.3)


@pytest.mark.parametrize("output", ["photos", "photos/run", "photos/red/../run", "link/run"])
def test_results_do_not_go_among_the_pictures(photos: Path, output: str) -> None:
    (photos.parent / "link").symlink_to(photos)
    with pytest.raises(DataError, match="lies inside the pictures"):
        Source(data=photos).keep_apart(photos.parent / output)


def test_results_may_lie_beside_the_pictures(photos: Path) -> None:
    Source(data=photos).keep_apart(photos.parent, photos.parent / "photos-run")


def test_one_folder_is_split_by_content(photos: Path) -> None:
    pictures = read(Source(data=photos, val_split=0.25))
    assert len(pictures.train) + len(pictures.val) == 24
    assert pictures.train.classes == pictures.val.classes == ("blue", "green", "red")
    assert 0 not in (*pictures.train.counts, *pictures.val.counts)


def test_a_picture_stays_on_its_side_when_it_is_renamed(photos: Path) -> None:
    before = read(Source(data=photos))
    for file in photos.rglob("*.jpg"):
        file.rename(file.with_name(f"renamed-{file.name}"))
    after = read(Source(data=photos))
    assert {before.digests[path] for path in before.val.paths} == {
        after.digests[path] for path in after.val.paths
    }


def test_the_command_split_agrees_with_the_training(photos: Path) -> None:
    pictures = read(Source(data=photos, val_split=0.4), seed=7)
    split = split_folder(photos, fraction=0.4, seed=7, progress=Silence())
    assert (split.train.paths, split.val.paths) == (pictures.train.paths, pictures.val.paths)


def test_two_folders_have_the_classes_of_the_training_folder(photos: Path) -> None:
    shutil.copytree(photos, photos.parent / "val")
    shutil.rmtree(photos.parent / "val/green")
    pictures = read(Source(train=photos, val=photos.parent / "val"))
    assert pictures.val.classes == ("blue", "green", "red")
    assert pictures.val.counts == (8, 0, 8)


def test_a_class_that_only_the_validation_has_is_refused(photos: Path) -> None:
    shutil.copytree(photos, photos.parent / "val")
    (photos.parent / "val/green").rename(photos.parent / "val/roses")
    with pytest.raises(DataError, match="no class 'roses'"):
        read(Source(train=photos, val=photos.parent / "val"))


def test_a_file_that_cannot_be_opened_is_left_out(photos: Path) -> None:
    (photos / "red/gone.jpg").symlink_to("nowhere.jpg")
    pictures = read(Source(data=photos))
    assert [each.path.name for each in pictures.skipped] == ["gone.jpg"]
    assert len(pictures.train) + len(pictures.val) == 24


def test_every_picture_is_in_one_part(photos: Path) -> None:
    pictures = read(Source(data=photos))
    parts = [pictures.part(number, 4) for number in (1, 2, 3, 4)]
    for side in ("train", "val"):
        found = [path for part in parts for path in getattr(part, side).paths]
        assert sorted(found) == sorted(getattr(pictures, side).paths)


def test_copies_are_in_the_same_part(photos: Path) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "blue/copy.jpg")
    pictures = read(Source(data=photos))
    for number in (1, 2, 3):
        part = pictures.part(number, 3)
        paths = {*part.train.paths, *part.val.paths}
        assert (photos / "red/0.jpg" in paths) == (photos / "blue/copy.jpg" in paths)


def test_progress_counts_a_file_of_both_folders_once(photos: Path, recorder: Any) -> None:
    dataset = read(Source(data=photos)).train
    read_digests([dataset, dataset], None, recorder)
    assert [(step["total"], step["done"]) for step in recorder.steps] == [
        (len(dataset), len(dataset))
    ]
