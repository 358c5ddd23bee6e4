"""`fic split`: a data set in two folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fic.cli.conftest import Fic, assert_one_line


@pytest.mark.parametrize(
    ("mode", "linked", "left"), [((), True, 24), (("--copy",), False, 24), (("--move",), False, 0)]
)
def test_split_links_copies_or_moves(
    fic: Fic, photos: Path, mode: tuple[str, ...], linked: bool, left: int
) -> None:
    assert fic("split", photos, "--out", "split", *mode).code == 0
    files = [file for file in Path("split").rglob("*.*g")]
    assert len(files) == 24
    assert all(file.is_symlink() == linked for file in files)
    assert len(list(photos.rglob("*.*g"))) == left


def test_without_a_folder_the_split_goes_where_the_scripts_put_it(fic: Fic, photos: Path) -> None:
    result = fic("split", "--dataset", photos, "--val_split", "0.25")
    assert result.code == 0
    train, val = (set(Path(name).rglob("*.*g")) for name in ("train_dir", "val_dir"))
    assert f"{len(train)} pictures in train_dir, {len(val)} in val_dir" in result.out
    assert len(train) + len(val) == len(list(photos.rglob("*.*g"))) == 24
    assert all(file.is_symlink() for file in train | val)


def test_other_pictures_in_train_dir_stay_as_they_are(fic: Fic, photos: Path) -> None:
    Path("train_dir/cats").mkdir(parents=True)
    Path("train_dir/cats/1.jpg").write_text("a cat")
    assert_one_line(fic("split", photos), 1, "train_dir/cats/1.jpg: is not part of this split")
    assert [str(path) for path in Path("train_dir").rglob("*.*")] == ["train_dir/cats/1.jpg"]
    assert not Path("val_dir").exists()


def test_a_list_with_a_split_is_split_as_it_says(
    fic: Fic, photos: Path, list_pictures: Callable[..., Path]
) -> None:
    list_pictures(photos, Path("list.csv"), val=4)
    result = fic("split", "list.csv", "--out", "out")
    assert "18 pictures in out/train, 6 in out/val" in result.out
    assert result.err.splitlines() == ["list.csv: split as its column says, not by --val-split"]


def test_a_label_that_is_no_folder_name_is_one_line(fic: Fic, photos: Path) -> None:
    Path("list.csv").write_text(
        "path,label,split\nphotos/red/0.jpg,a/b,train\nphotos/red/1.png,c,train\n"
        "photos/red/2.jpg,c,val\n"
    )
    result = fic("split", "list.csv")
    _, error = result.err.splitlines()
    assert_one_line(replace(result, err=error), 1, "'a/b' cannot be the name of a folder")
