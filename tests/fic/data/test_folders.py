import os
import unicodedata
from pathlib import Path

import pytest

from fic.data import Dataset
from fic.data.folders import read_folder
from fic.errors import DataError


def put(folder: Path, *names: str) -> Path:
    """Make files; listing a data set never opens them."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return folder


def names(dataset: Dataset) -> list[str]:
    return [path.name for path in dataset.paths]


def test_classes_are_the_folders_sorted_by_code_point(tmp_path: Path) -> None:
    put(tmp_path, "b/1.jpg", "Z/1.jpg", "a10/1.jpg", "a9/1.jpg", "é/1.jpg")
    assert read_folder(tmp_path).labels == ("Z", "a10", "a9", "b", "é")


def test_class_names_are_in_composed_form_whatever_the_disk_holds(tmp_path: Path) -> None:
    put(tmp_path, f"{unicodedata.normalize('NFD', 'é')}/1.jpg", "f/1.jpg")
    dataset = read_folder(tmp_path)
    assert dataset.labels == ("f", unicodedata.normalize("NFC", "é"))
    assert dataset.paths[1].exists()


def test_each_picture_has_the_label_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path, "daisy/2.jpg", "daisy/1.jpg", "rose/3.png")
    dataset = read_folder(tmp_path)
    assert names(dataset) == ["1.jpg", "2.jpg", "3.png"]
    assert dataset.targets == (0, 0, 1)
    assert dataset.counts == (2, 1)
    assert len(dataset) == 3


@pytest.mark.parametrize("name", ["1.JPG", "1.jpeg", "1.Png", "1.bmp", "1.webp", "1.TIFF"])
def test_pictures_of_every_format_are_listed(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"a/{name}", "b/1.jpg")
    assert names(read_folder(tmp_path)) == [name, "1.jpg"]


def test_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    put(tmp_path, "a/x/2.jpg", "a/1.jpg", "a/x/y/3.jpg", "b/1.jpg")
    dataset = read_folder(tmp_path)
    assert dataset.counts == (3, 1)
    assert names(dataset) == ["1.jpg", "2.jpg", "3.jpg", "1.jpg"]


@pytest.mark.parametrize(
    "stray",
    [
        *("a/.hidden.jpg", "a/._1.jpg", "a/Thumbs.db", "a/desktop.ini", "a/.DS_Store"),
        *(".git/1.jpg", "__MACOSX/a/1.jpg", "@eaDir/1.jpg", "a/@eaDir/1.jpg"),
        *("a/notes.txt", "LICENSE.txt", "1.jpg"),
    ],
)
def test_what_other_programs_leave_behind_is_no_picture_and_no_class(
    tmp_path: Path, stray: str
) -> None:
    put(tmp_path, "a/1.jpg", "b/1.jpg", stray)
    dataset = read_folder(tmp_path)
    assert dataset.labels == ("a", "b")
    assert len(dataset) == 2


def test_links_to_pictures_and_to_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/1.jpg", "elsewhere/more/2.jpg", "data/a/0.jpg", "data/b/0.jpg")
    (tmp_path / "data/a/1.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (tmp_path / "data/a/more").symlink_to(tmp_path / "elsewhere/more")
    assert names(read_folder(tmp_path / "data")) == ["0.jpg", "1.jpg", "2.jpg", "0.jpg"]


def test_a_loop_of_links_is_walked_once(tmp_path: Path) -> None:
    put(tmp_path, "a/x/1.jpg", "b/1.jpg")
    (tmp_path / "a/x/again").symlink_to(tmp_path / "a")
    assert read_folder(tmp_path).counts == (1, 1)


def test_a_link_that_leads_nowhere_stays_in_the_list_to_be_reported(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a/2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert names(read_folder(tmp_path)) == ["1.jpg", "2.jpg", "1.jpg"]


def test_a_class_of_nothing_but_dead_links_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/notes.txt")
    (tmp_path / "b/1.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"b: holds only links that lead nowhere"):
        read_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_with_the_name_of_a_picture_is_not_opened(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a/2.jpg")
    assert len(read_folder(tmp_path)) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no class folders"),
        (["1.jpg", "2.jpg"], "holds pictures but no class folders; .*for example .*roses"),
        (["roses/1.jpg"], r"needs at least two class folders, found 1 \(roses\); a data set is"),
        (["photos/a/1.jpg", "photos/b/1.jpg"], r"found 1 \(photos\); is .*photos the data set\?"),
        (["a/1.jpg", "b/notes.txt"], r"b: no pictures of a format that fic reads \(.*jpg.*\)"),
        (["train/a/1.jpg", "val/a/1.jpg"], "is already split into train and val; give these"),
        (["a\nb/1.jpg", "c/1.jpg"], r"a class name may hold no line break"),
        (["é/1.jpg", "e\u0301/1.jpg"], "two class folders are both called 'é'"),
    ],
)
def test_a_folder_that_is_no_data_set_is_told_why(
    tmp_path: Path, files: list[str], message: str
) -> None:
    folder = put(tmp_path / "data", *files)
    folder.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message) as caught:
        read_folder(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_may_be_called_train_and_val(tmp_path: Path) -> None:
    put(tmp_path, "train/1.jpg", "test/1.jpg")
    assert read_folder(tmp_path).labels == ("test", "train")


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "data.zip")
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "data")
    with pytest.raises(DataError, match=r"is a file, not a folder; .* unpack it"):
        read_folder(tmp_path / "data.zip")


def test_a_validation_set_that_lacks_a_class_keeps_the_labels(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "c/1.jpg", "c/2.jpg")
    dataset = read_folder(tmp_path, labels=("a", "b", "c"))
    assert dataset.labels == ("a", "b", "c")
    assert dataset.targets == (0, 2, 2)
    assert dataset.counts == (1, 0, 2)


def test_a_validation_class_may_be_an_empty_folder(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg")
    (tmp_path / "b").mkdir()
    assert read_folder(tmp_path, labels=("a", "b")).targets == (0,)


def test_a_validation_class_that_training_lacks_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "d/1.jpg")
    with pytest.raises(DataError, match=r"d: the training set has no class 'd'"):
        read_folder(tmp_path, labels=("a", "b"))


def test_a_subset_keeps_the_classes() -> None:
    dataset = Dataset((Path("1"), Path("2"), Path("3")), (0, 1, 1), ("a", "b"))
    assert dataset.subset([2, 0]) == Dataset((Path("3"), Path("1")), (1, 0), ("a", "b"))


def test_paths_without_targets_are_a_slip_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="1 paths do not go with 2 targets"):
        Dataset((Path("1"),), (0, 1), ("a", "b"))


SPLIT_NAMES = [
    *(("Training", "Testing"), ("Train", "Val"), ("TRAIN", "TEST"), ("training_set", "test_set")),
    *(
        ("train", "valid"),
        ("train-data", "validation-data"),
        ("train_images", "dev"),
        ("trn", "tst"),
    ),
    *(("train", "holdout"), ("train", "hold-out"), ("Train Set", "Eval Set"), ("train", "eval")),
    *(("train_dir", "val_dir"), ("seg_train", "seg_test"), ("train2017", "val2017")),
    *(("x_train", "x_test"), ("1-train", "2-val"), ("Flowers (train)", "flowers (test)")),
    *(("trainA", "testA", "trainB"), ("trainval", "held_out"), ("train.zip", "val.zip")),
    *(("val", "test"), ("train", "val", "test"), ("train", "test", "sample"), ("train", "test1")),
]


@pytest.mark.parametrize("sides", SPLIT_NAMES, ids=" ".join)
def test_a_split_is_never_taken_for_classes(tmp_path: Path, sides: tuple[str, ...]) -> None:
    for side in sides:
        put(tmp_path, f"{side}/a/1.jpg", f"{side}/b/1.jpg")
    with pytest.raises(DataError, match=r"is already split into .* give these folders") as caught:
        read_folder(tmp_path)
    if sides[0].lower().startswith("tr"):
        train, val = (tmp_path / side for side in sides[:2])
        assert f"(--train {train} --val {val})" in str(caught.value)


def test_a_class_with_the_word_of_a_side_in_its_name_is_a_class(tmp_path: Path) -> None:
    put(tmp_path, "steam train/a/1.jpg", "crash test/b/1.jpg", "test tube/c/1.jpg")
    assert read_folder(tmp_path).labels == ("crash test", "steam train", "test tube")


def test_an_unlabeled_test_set_beside_a_training_set_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg")
    with pytest.raises(DataError, match="is already split into test and train"):
        read_folder(tmp_path)


@pytest.mark.parametrize("other", ["sample", "extra"])
def test_one_side_beside_folders_of_the_same_classes_is_no_class(
    tmp_path: Path, other: str
) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{other}/a/1.jpg", f"{other}/b/1.jpg")
    with pytest.raises(DataError, match="is already split into train; give"):
        read_folder(tmp_path)


def test_a_side_beside_pictures_without_labels_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "unlabeled/1.jpg")
    with pytest.raises(DataError, match="is already split into train; give"):
        read_folder(tmp_path)


def test_trains_with_kinds_of_trains_are_a_class(tmp_path: Path) -> None:
    put(tmp_path, "train/steam/1.jpg", "train/diesel/2.jpg", "bus/1.jpg", "car/1.jpg")
    assert read_folder(tmp_path).labels == ("bus", "car", "train")


def test_a_measurement_on_a_split_is_told_so_too(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "test/a/1.jpg")
    with pytest.raises(DataError, match=r"is already split .* or one of them alone"):
        read_folder(tmp_path, labels=("a", "b"))


@pytest.mark.parametrize("below", ["train/1.jpg test/1.jpg", "x/Training/1.jpg x/Validation/1.jpg"])
def test_a_split_inside_the_classes_is_refused(tmp_path: Path, below: str) -> None:
    put(tmp_path, "b/1.jpg", *(f"a/{name}" for name in below.split()))
    with pytest.raises(
        DataError, match=r"a: is already split into .* inside the class; give a CSV"
    ):
        read_folder(tmp_path)


def test_one_side_inside_the_classes_is_a_folder_like_others(tmp_path: Path) -> None:
    put(tmp_path, "a/train/1.jpg", "b/train/1.jpg")
    assert read_folder(tmp_path).labels == ("a", "b")


def test_files_that_are_not_used_are_counted_class_by_class_and_beside_them(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "a/2.heic", "a/3", "b/1.jpg", "b/x/4.txt", "loose.jpg", "README.md")
    assert (
        read_folder(tmp_path)
        .files.line()
        .startswith(
            "Used 2 of 7 files; left out: 1 .heic, 1 .md, 1 .txt, 1 loose picture beside the class "
            "folders, 1 without a suffix; convert HEIC"
        )
    )


def test_an_empty_class_says_what_it_holds_instead(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/1.heic", "b/2.heic")
    with pytest.raises(DataError, match=r"b: no pictures of a format .*, but 2 \.heic; add some"):
        read_folder(tmp_path)


def test_a_class_of_heic_pictures_says_how_to_convert_them(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/1.heic")
    with pytest.raises(DataError, match=r"remove the folder; convert HEIC to JPEG first"):
        read_folder(tmp_path)


def test_links_out_of_a_class_bring_in_no_other_class(tmp_path: Path) -> None:
    put(tmp_path, "data/a/1.jpg", "data/b/1.jpg")
    (tmp_path / "data/a/all").symlink_to("..")
    (tmp_path / "data/a/above").symlink_to("../..")
    (tmp_path / "data/loop").symlink_to(".")
    dataset = read_folder(tmp_path / "data")
    assert (dataset.labels, dataset.counts) == (("a", "b"), (1, 1))
    assert dataset.files.line() == "Used 2 of 5 files; left out: 3 links to a folder above"


def test_a_locked_folder_of_a_class_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/1.jpg", "b/1.jpg", "b/locked/2.jpg")
    really = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"b/locked: cannot be read: Permission denied"):
        read_folder(tmp_path)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock all folders of the name `locked`; the tests may run as root, whom nothing stops."""
    really = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", folder)
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.usefixtures("locked")
def test_a_locked_folder_inside_a_class_is_skipped_and_named_where_errors_are_skipped(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a/1.jpg", "a/locked/2.jpg", "b/1.jpg")
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        read_folder(tmp_path)
    dataset = read_folder(tmp_path, on_error="skip")
    assert names(dataset) == ["1.jpg", "1.jpg"]
    [skipped] = dataset.skipped
    assert skipped.path == tmp_path / "a/locked"
    assert skipped.reason.endswith("cannot be read: Permission denied; check its permissions")


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("place", ["locked/1.jpg", "a/locked/1.jpg"])
def test_no_class_vanishes_since_its_folder_is_locked(tmp_path: Path, place: str) -> None:
    put(tmp_path, place, "b/1.jpg", "c/1.jpg")
    with pytest.raises(DataError, match="locked: cannot be read"):
        read_folder(tmp_path, on_error="skip")
