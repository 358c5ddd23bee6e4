"""`fic split`: a data set in two folders."""

import os
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


def listed(*rows: str) -> None:
    Path("photos.csv").write_text("path,label,split\n" + "".join(f"{row}\n" for row in rows))


OWN = ("photos/red/0.jpg,a,train", "photos/red/1.png,b,train", "photos/red/2.jpg,b,val")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("../id_ecdsa,a,train", "lies outside"),
        ("../photo.jpg,a,train", "lies outside"),
        ("{absolute}/photo.jpg,a,train", "lies outside"),
        ("photos/../../photo.jpg,a,train", "lies outside"),
        ("away/photo.jpg,a,train", "lies outside"),
        ("photos/key.jpg,a,train", "is not a picture"),
    ],
)
def test_a_list_moves_pictures_of_its_own_folder_only(
    fic: Fic, photos: Path, tmp_path: Path, row: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(photos.rename(tmp_path / "in/photos").parent)
    (tmp_path / "id_ecdsa").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "photo.jpg").write_bytes(Path("photos/red/4.jpg").read_bytes())
    Path("photos/key.jpg").write_text("-----BEGIN PRIVATE KEY-----")
    Path("away").symlink_to(tmp_path)
    listed(*OWN, row.format(absolute=tmp_path))
    before = sorted(tmp_path.rglob("*"))
    result = fic("split", "photos.csv", "--move", "--out", "out")
    assert result.code == 1
    assert says in result.err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_list_moves_its_pictures(fic: Fic, photos: Path) -> None:
    listed(*OWN)
    assert fic("split", "photos.csv", "--move", "--out", "out").code == 0
    assert len(list(Path("out").rglob("*.*g"))) == 3
    assert not Path("photos/red/0.jpg").exists()


def test_a_list_that_is_no_file_is_one_line(fic: Fic) -> None:
    os.mkfifo("pipe.csv")
    Path("zero.csv").symlink_to("/dev/zero")
    Path("line.csv").write_bytes(b"path,label\n" + b"a" * (1 << 22))
    for name in ("pipe.csv", "zero.csv", "line.csv"):
        assert_one_line(fic("split", name), 1, f"{name}")
    if Path("/proc/kmsg").exists():
        Path("kernel.csv").symlink_to("/proc/kmsg")
        assert_one_line(fic("split", "kernel.csv"), 1, "kernel.csv")
