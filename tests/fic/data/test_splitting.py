import errno
import os
import random
from hashlib import blake2b
from itertools import count
from pathlib import Path

import pytest

from fic.data import Dataset, Split
from fic.data.csv_files import read_csv
from fic.data.folders import read_folder
from fic.data.split_folders import Mode, write_split
from fic.data.splitting import split_dataset
from fic.errors import DataError


def digest_of(content: object) -> bytes:
    return blake2b(str(content).encode(), digest_size=16).digest()


def dataset_of(*classes: list[object]) -> tuple[Dataset, list[bytes]]:
    """Return a data set of which each class holds these contents, and the digests."""
    numbers = count()
    paths, labels, digests = [], [], []
    for label, contents in enumerate(classes):
        for content in contents:
            paths.append(Path(f"{label}/{next(numbers)}.jpg"))
            labels.append(label)
            digests.append(digest_of(content))
    names = tuple(str(label) for label in range(len(classes)))
    return Dataset(tuple(paths), tuple(labels), names), digests


def val_contents(split: Split, dataset: Dataset, digests: list[bytes]) -> set[bytes]:
    return {digests[dataset.paths.index(path)] for path in split.val.paths}


def write_pictures(folder: Path, **classes: int) -> Dataset:
    for name, number in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            (folder / name / f"{index}.jpg").write_text(f"{name} {index}")
    return read_folder(folder)


def split_files(dataset: Dataset, fraction: float = 0.4) -> Split:
    digests = [digest_of(path.read_text()) for path in dataset.paths]
    return split_dataset(dataset, digests, fraction=fraction, seed=0)


def files_below(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_picture_is_on_exactly_one_side() -> None:
    dataset, digests = dataset_of(list(range(50)), list(range(50, 90)))
    split = split_dataset(dataset, digests, fraction=0.3, seed=1)
    assert sorted(split.train.paths + split.val.paths) == sorted(dataset.paths)
    assert split.train.labels == split.val.labels == dataset.labels


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_share_holds_in_each_class_to_within_sampling(fraction: float) -> None:
    size = 2000
    dataset, digests = dataset_of(list(range(size)), list(range(size, 2 * size)))
    split = split_dataset(dataset, digests, fraction=fraction, seed=0)
    four_sigma = 4 * (fraction * (1 - fraction) / size) ** 0.5
    for in_val in split.val.counts:
        assert abs(in_val / size - fraction) < four_sigma


def test_the_side_is_the_documented_number() -> None:
    dataset, digests = dataset_of(list(range(40)), list(range(40, 80)))
    split = split_dataset(dataset, digests, fraction=0.25, seed=7)
    expected = {
        digest
        for digest in digests
        if int.from_bytes(blake2b(b"7:" + digest, digest_size=8).digest(), "big") < 2**64 // 4
    }
    assert val_contents(split, dataset, digests) == expected


def test_another_seed_gives_another_split() -> None:
    dataset, digests = dataset_of(list(range(50)), list(range(50, 100)))
    first, again, other = (
        split_dataset(dataset, digests, fraction=0.3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_the_order_of_the_pictures_does_not_matter() -> None:
    dataset, digests = dataset_of(list(range(30)), list(range(30, 33)), list(range(33, 35)))
    order = list(range(len(dataset)))
    random.Random(0).shuffle(order)
    straight = split_dataset(dataset, digests, fraction=0.2, seed=3)
    shuffled = split_dataset(
        dataset.subset(order), [digests[index] for index in order], fraction=0.2, seed=3
    )
    assert set(straight.val.paths) == set(shuffled.val.paths)


def test_a_picture_stays_on_its_side_when_others_are_added() -> None:
    few, few_digests = dataset_of(list(range(40)), list(range(100, 140)))
    many, many_digests = dataset_of(list(range(90)), list(range(100, 190)))
    before = val_contents(split_dataset(few, few_digests, fraction=0.3, seed=0), few, few_digests)
    after = val_contents(
        split_dataset(many, many_digests, fraction=0.3, seed=0), many, many_digests
    )
    assert before == after & set(few_digests)


def test_copies_of_a_picture_are_on_one_side_across_classes_too() -> None:
    dataset, digests = dataset_of([1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 3, 4, 5, 6, 7])
    split = split_dataset(dataset, digests, fraction=0.5, seed=0)
    in_val = val_contents(split, dataset, digests)
    in_train = {digests[dataset.paths.index(path)] for path in split.train.paths}
    assert in_val.isdisjoint(in_train)


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_two_different_pictures_of_a_class_are_on_both_sides(fraction: float, seed: int) -> None:
    dataset, digests = dataset_of([1, 2], [3, 4, 5], [6, 6, 7])
    split = split_dataset(dataset, digests, fraction=fraction, seed=seed)
    assert all(split.train.counts)
    assert all(split.val.counts)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_classes_that_share_pictures_all_have_training(seed: int, fraction: float) -> None:
    dataset, digests = dataset_of([1, 2], [1, 3], [2, 4], [5, 6])
    split = split_dataset(dataset, digests, fraction=fraction, seed=seed)
    assert all(split.train.counts)
    assert split.val.counts[3] == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_only_picture_of_a_class_is_for_training(seed: int) -> None:
    dataset, digests = dataset_of([1, 1, 1], list(range(2, 20)))
    split = split_dataset(dataset, digests, fraction=0.9, seed=seed)
    assert split.train.counts[0] == 3
    assert split.val.counts[0] == 0


def test_nothing_left_for_validation_is_an_error() -> None:
    dataset, digests = dataset_of([1, 1], [2])
    with pytest.raises(DataError, match="no class has two different pictures"):
        split_dataset(dataset, digests, fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_a_share_that_leaves_a_side_empty_is_an_error(fraction: float) -> None:
    dataset, digests = dataset_of([1, 2], [3, 4])
    with pytest.raises(DataError, match="give a number between 0 and 1"):
        split_dataset(dataset, digests, fraction=fraction, seed=0)


def test_digests_must_go_with_the_pictures() -> None:
    dataset, digests = dataset_of([1, 2], [3, 4])
    with pytest.raises(ValueError, match="3 digests do not go with 4 pictures"):
        split_dataset(dataset, digests[:3], fraction=0.5, seed=0)


MODES: list[Mode] = ["link", "copy", "move"]


@pytest.mark.parametrize("mode", MODES)
def test_a_written_split_holds_the_pictures_by_side_and_class(tmp_path: Path, mode: Mode) -> None:
    dataset = write_pictures(tmp_path / "data", rose=6, daisy=5)
    pictures = files_below(tmp_path / "data")
    split = split_files(dataset)
    report = write_split(split, tmp_path / "out", mode=mode)
    assert report.written == 11
    train, val = files_below(tmp_path / "out/train"), files_below(tmp_path / "out/val")
    assert train | val == pictures
    assert len(train) == len(split.train)
    assert len(val) == len(split.val)


def test_links_lead_to_the_real_files(tmp_path: Path) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    write_split(split, tmp_path / "out")
    links = [path for path in (tmp_path / "out").rglob("*.jpg") if path.is_symlink()]
    assert len(links) == 4
    assert all(link.readlink().is_absolute() for link in links)


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_the_source_is_left_as_it_was(tmp_path: Path, mode: Mode) -> None:
    dataset = write_pictures(tmp_path / "data", a=4, b=4)
    before = files_below(tmp_path / "data")
    write_split(split_files(dataset), tmp_path / "out", mode=mode)
    assert files_below(tmp_path / "data") == before


def test_moving_leaves_the_folders_and_takes_the_files(tmp_path: Path) -> None:
    dataset = write_pictures(tmp_path / "data", a=4, b=4)
    write_split(split_files(dataset), tmp_path / "out", mode="move")
    assert files_below(tmp_path / "data") == {}
    assert (tmp_path / "data/a").is_dir()


def test_moving_a_link_keeps_what_it_leads_to(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", a=3, b=3)
    (tmp_path / "real.jpg").write_text("a picture")
    (tmp_path / "data/a/link.jpg").symlink_to("../../real.jpg")
    write_split(split_files(read_folder(tmp_path / "data")), tmp_path / "out", mode="move")
    (moved,) = (tmp_path / "out").rglob("link.jpg")
    assert moved.read_text() == "a picture"
    assert (tmp_path / "real.jpg").exists()


def test_folders_below_a_class_stay_so_that_names_never_meet(tmp_path: Path) -> None:
    for name in ("a/x/1.jpg", "a/y/1.jpg", "a/1.jpg", "b/1.jpg", "b/2.jpg"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    write_split(split_files(read_folder(tmp_path / "data")), tmp_path / "out", mode="copy")
    out = files_below(tmp_path / "out/train") | files_below(tmp_path / "out/val")
    assert out == {name: name for name in ("a/x/1.jpg", "a/y/1.jpg", "a/1.jpg")} | {
        "b/1.jpg": "b/1.jpg",
        "b/2.jpg": "b/2.jpg",
    }


def test_pictures_of_one_name_from_different_folders_are_numbered(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x/1.jpg", "y/1.JPG", "z/1.jpg", "z/2.jpg")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(path))
    listed = Dataset(tuple(paths), (0, 0, 0, 1), ("a", "b"))
    split = Split(train=listed, val=listed.subset([]))
    for _ in range(2):
        write_split(split, tmp_path / "out", mode="copy")
        assert files_below(tmp_path / "out/train") == {
            "a/1.jpg": str(paths[0]),
            "a/1-2.JPG": str(paths[1]),
            "a/1-3.jpg": str(paths[2]),
            "b/2.jpg": str(paths[3]),
        }


@pytest.mark.parametrize("mode", ["link", "copy", "move"])
def test_a_list_of_files_is_written_by_label(tmp_path: Path, mode: Mode) -> None:
    """The label decides the folder, not where the file is."""
    write_pictures(tmp_path / "data", here=2, there=2)
    file = tmp_path / "list.csv"
    file.write_text(
        "path,label,split\ndata/here/0.jpg,a,train\ndata/here/1.jpg,b,train\n"
        "data/there/0.jpg,a,train\ndata/there/1.jpg,b,val\n"
    )
    split = read_csv(file)
    assert isinstance(split, Split)
    write_split(split, tmp_path / "out", mode=mode)
    assert files_below(tmp_path / "out") == {
        "train/a/0.jpg": "here 0",
        "train/a/0-2.jpg": "there 0",
        "train/b/1.jpg": "here 1",
        "val/b/1-2.jpg": "there 1",
    }


def test_names_in_any_script_survive(tmp_path: Path) -> None:
    dataset = write_pictures(tmp_path / "data", bläue=2, 花=2)
    write_split(split_files(dataset), tmp_path / "out")
    assert read_folder(tmp_path / "out/train").labels == ("bläue", "花")


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_writing_the_same_split_again_changes_nothing(tmp_path: Path, mode: Mode) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=4, b=4))
    write_split(split, tmp_path / "out", mode=mode)
    stamps = [path.lstat().st_ctime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    report = write_split(split, tmp_path / "out", mode=mode)
    assert (report.written, report.unchanged) == (0, 8)
    again = [path.lstat().st_ctime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    assert again == stamps


def test_a_split_of_a_data_set_that_grew_adds_the_new_pictures(tmp_path: Path) -> None:
    write_split(split_files(write_pictures(tmp_path / "data", a=9, b=9)), tmp_path / "out")
    for index in range(20, 30):
        (tmp_path / f"data/a/{index}.jpg").write_text(f"a {index}")
    report = write_split(split_files(read_folder(tmp_path / "data")), tmp_path / "out")
    assert (report.written, report.unchanged) == (10, 18)


def test_copies_take_the_place_of_links_when_copies_are_asked_for(tmp_path: Path) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    write_split(split, tmp_path / "out", mode="link")
    write_split(split, tmp_path / "out", mode="copy")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*.jpg"))


def test_links_to_a_data_set_that_was_moved_are_made_anew(tmp_path: Path) -> None:
    write_split(split_files(write_pictures(tmp_path / "data", a=2, b=2)), tmp_path / "out")
    (tmp_path / "data").rename(tmp_path / "moved")
    report = write_split(split_files(read_folder(tmp_path / "moved")), tmp_path / "out")
    assert report.written == 4
    assert len(files_below(tmp_path / "out")) == 4


def test_an_interrupted_move_resumes_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_pictures(tmp_path / "data", a=10, b=10)
    pictures = files_below(tmp_path / "data")
    calls, real_replace = count(), Path.replace

    def replace_five(source: Path, target: Path) -> Path:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return real_replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", replace_five)
        write_split(split_files(dataset), tmp_path / "out", mode="move")
    write_split(split_files(read_folder(tmp_path / "data")), tmp_path / "out", mode="move")
    assert files_below(tmp_path / "data") == {}
    assert files_below(tmp_path / "out/train") | files_below(tmp_path / "out/val") == pictures


def test_a_move_to_another_disk_copies_and_then_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_pictures(tmp_path / "data", a=3, b=3)
    pictures = files_below(tmp_path / "data")
    real_replace = Path.replace

    def replace(source: Path, target: Path) -> Path:
        if source.is_relative_to(tmp_path / "data"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real_replace(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_split(split_files(dataset), tmp_path / "out", mode="move")
    assert files_below(tmp_path / "data") == {}
    assert files_below(tmp_path / "out/train") | files_below(tmp_path / "out/val") == pictures


def test_a_move_that_was_cut_between_copy_and_delete_is_finished(tmp_path: Path) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    write_split(split, tmp_path / "out", mode="copy")
    write_split(split, tmp_path / "out", mode="move")
    assert files_below(tmp_path / "data") == {}
    assert len(files_below(tmp_path / "out")) == 4


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_hard_links_are_made_where_there_are_no_symbolic_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    monkeypatch.setattr(Path, "symlink_to", refuse)
    write_split(split, tmp_path / "out")
    assert all(path.stat().st_nlink == 2 for path in split.train.paths)


def test_copies_are_made_where_there_are_no_links_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_split(split, tmp_path / "out")
    assert len(files_below(tmp_path / "out")) == 4
    assert all(path.stat().st_nlink == 1 for path in split.train.paths)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_that_is_there_is_never_overwritten(tmp_path: Path, mode: Mode) -> None:
    dataset = write_pictures(tmp_path / "data", a=3, b=3)
    split = split_files(dataset)
    last = split.train.paths[-1]
    taken = tmp_path / "out/train" / last.parent.name / last.name
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    with pytest.raises(DataError, match="is not the picture"):
        write_split(split, tmp_path / "out", mode=mode)
    assert files_below(tmp_path / "out") == {taken.relative_to(tmp_path / "out").as_posix(): "mine"}
    assert len(files_below(tmp_path / "data")) == 6


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_folder_that_holds_other_pictures_is_not_touched(tmp_path: Path, mode: Mode) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    other = tmp_path / "out/val/a/other.jpg"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    with pytest.raises(DataError, match=r"other\.jpg: is not part of this split"):
        write_split(split, tmp_path / "out", mode=mode)
    assert files_below(tmp_path / "out") == {"val/a/other.jpg": "mine"}


def test_files_beside_the_two_sides_are_nobody_s_business(tmp_path: Path) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    write_split(split, tmp_path, train_name="train_dir", val_name="val_dir")
    assert (tmp_path / "data/a/0.jpg").exists()
    assert len(files_below(tmp_path / "train_dir")) + len(files_below(tmp_path / "val_dir")) == 4


def test_a_linked_side_cannot_make_a_move_delete_the_only_copy(tmp_path: Path) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match="is not a plain folder"):
        write_split(split, tmp_path / "out", mode="move")
    (tmp_path / "out/train").unlink()
    (tmp_path / "out/train").mkdir()
    (tmp_path / "out/train/a").symlink_to(tmp_path / "data/a")
    with pytest.raises(DataError, match="a: is not part of this split"):
        write_split(split, tmp_path / "out", mode="move")
    assert len(files_below(tmp_path / "data")) == 4


@pytest.mark.parametrize("where", [".", "splits", "a/splits"])
def test_a_split_inside_the_data_set_is_refused(tmp_path: Path, where: str) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=2, b=2))
    with pytest.raises(DataError, match="lies inside the data set"):
        write_split(split, tmp_path / "data" / where)


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", ""])
def test_a_class_whose_name_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.jpg").write_text("")
    listed = Dataset((tmp_path / "1.jpg",), (0,), (name, "b"))
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        write_split(Split(train=listed, val=listed.subset([])), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence_and_leaves_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=3, b=3))
    copies = count()

    def copy(source: Path, target: Path) -> None:
        target.write_text(source.read_text())
        if next(copies) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(DataError) as caught:
        patch.setattr("fic.data.split_folders.shutil.copy2", copy)
        write_split(split, tmp_path / "out", mode="copy")
    assert "No space left on device; remedy that and run again" in str(caught.value)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 3
    assert write_split(split, tmp_path / "out", mode="copy").written == 3


@pytest.mark.parametrize("what", ["chmod", "utime"])
@pytest.mark.parametrize("mode", ["copy", "link"])
def test_a_disk_without_rights_times_and_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, mode: Mode
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    split = split_files(write_pictures(tmp_path / "data", a=3, b=3))
    for name in (what, "symlink", "link"):
        monkeypatch.setattr(os, name, refuse)
    assert write_split(split, tmp_path / "out", mode=mode).written == 6
    assert sorted(files_below(tmp_path / "out").values()) == [
        f"{c} {n}" for c in "ab" for n in "012"
    ]
    assert not [path for path in (tmp_path / "out").rglob(".*")]


def test_the_same_folder_is_not_resolved_for_each_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_files(write_pictures(tmp_path / "data", a=20, b=20))
    resolved = count()
    really = os.path.realpath

    def realpath(path: Path, **options: bool) -> str:
        next(resolved)
        return really(path, **options)

    monkeypatch.setattr(os.path, "realpath", realpath)
    write_split(split, tmp_path / "out")
    assert next(resolved) < 10
