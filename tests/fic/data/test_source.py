import shutil
from pathlib import Path
from typing import Any

import pytest

from fic.data import Dataset, Source, read_pictures
from fic.data.source import read_digests, read_validation, split_pictures
from fic.errors import DataError
from fic.progress import Silence


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
    assert pictures.train.labels == pictures.val.labels == ("blue", "green", "red")
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
    split = split_pictures(photos, fraction=0.4, seed=7, progress=Silence())
    assert (split.train.paths, split.val.paths) == (pictures.train.paths, pictures.val.paths)


def test_two_folders_have_the_classes_of_the_training_folder(photos: Path) -> None:
    shutil.copytree(photos, photos.parent / "val")
    shutil.rmtree(photos.parent / "val/green")
    pictures = read(Source(train=photos, val=photos.parent / "val"))
    assert pictures.val.labels == ("blue", "green", "red")
    assert pictures.val.counts == (8, 0, 8)


def test_a_class_that_only_the_validation_has_is_refused(photos: Path) -> None:
    shutil.copytree(photos, photos.parent / "val")
    (photos.parent / "val/green").rename(photos.parent / "val/roses")
    with pytest.raises(DataError, match="no class 'roses'"):
        read(Source(train=photos, val=photos.parent / "val"))


def test_a_csv_file_is_split_like_the_folder_with_the_same_pictures(
    photos: Path, list_pictures: Any
) -> None:
    folder = read(Source(data=photos, val_split=0.4))
    listed = read(Source(data=list_pictures(photos, photos / "list.csv"), val_split=0.4))
    assert listed.train.labels == folder.train.labels
    for side in ("train", "val"):
        assert labels_of(getattr(listed, side)) == labels_of(getattr(folder, side))


def labels_of(dataset: Dataset) -> dict[Path, int]:
    return dict(zip(dataset.paths, dataset.targets, strict=True))


def test_a_csv_file_with_the_column_split_has_its_own_split(
    photos: Path, list_pictures: Any, recorder: Any
) -> None:
    file = list_pictures(photos, photos.parent / "list.CSV", val=2)
    pictures = read(Source(data=file, val_split=0.9), progress=recorder)
    assert (pictures.train.counts, pictures.val.counts) == ((4, 4, 4), (4, 4, 4))
    assert recorder.notes == [f"{file}: split as its column says, not by --val-split"]


def test_only_training_pictures_are_for_training_where_a_file_says_so(
    photos: Path, list_pictures: Any
) -> None:
    pictures = read(Source(data=list_pictures(photos, photos / "list.csv", val=4)), seed=None)
    assert (len(pictures.train), len(pictures.val)) == (18, 6)


def test_two_csv_files_have_the_classes_of_the_training_file(
    photos: Path, list_pictures: Any
) -> None:
    train = list_pictures(photos, photos / "train.csv")
    lines = train.read_text(encoding="utf-8").splitlines(keepends=True)
    val = photos / "val.csv"
    val.write_text("".join(line for line in lines if not line.endswith(",blue\n")))
    pictures = read(Source(train=train, val=val))
    assert pictures.val.labels == ("blue", "green", "red")
    assert pictures.val.counts == (0, 8, 8)
    assert set(pictures.val.targets) == {1, 2}


def test_a_folder_and_a_csv_file_go_together(photos: Path, list_pictures: Any) -> None:
    pictures = read(Source(train=photos, val=list_pictures(photos, photos / "val.csv")))
    assert labels_of(pictures.train) == labels_of(pictures.val)


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_file_with_both_sides_is_neither_of_them(
    photos: Path, list_pictures: Any, side: str
) -> None:
    both = list_pictures(photos, photos / "both.csv", val=2)
    with pytest.raises(DataError, match=r"both\.csv: has a column split, .* give it as --data"):
        read(Source(**{"train": photos, "val": photos, side: both}))


def test_results_do_not_take_the_place_of_the_list(photos: Path, list_pictures: Any) -> None:
    source = Source(data=list_pictures(photos, photos / "list.csv"))
    source.keep_apart(photos / "run", photos.parent)
    with pytest.raises(DataError, match="is the list of the pictures"):
        source.keep_apart(photos / "red/../list.csv")


def test_a_folder_may_be_called_like_a_file(photos: Path) -> None:
    pictures = read(Source(data=photos.rename(photos.with_suffix(".csv"))))
    assert len(pictures.train) + len(pictures.val) == 24


def test_a_measurement_takes_the_validation_side_of_a_file(
    photos: Path, list_pictures: Any
) -> None:
    file = list_pictures(photos, photos / "list.csv", val=4)
    assert read_validation(file, labels=("blue", "green", "red")).counts == (2, 2, 2)
    assert len(read_validation(photos)) == 24


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
