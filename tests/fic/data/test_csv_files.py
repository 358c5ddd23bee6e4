import re
from pathlib import Path

import pytest

from fic.data import Dataset, Split
from fic.data.csv_files import read_csv
from fic.errors import DataError


def names(dataset: Dataset) -> list[str]:
    return [path.name for path in dataset.paths]


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "p").mkdir()
    for number in (1, 2, 3):
        (folder / f"p/{number}.jpg").touch()
    file = folder / "list.csv"
    file.write_bytes(text.encode(encoding))
    return file


def test_csv_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "path,label\np/2.jpg,rose\np/1.jpg,daisy\n")
    dataset = read_csv(file)
    assert isinstance(dataset, Dataset)
    assert dataset.paths == (tmp_path / "p/2.jpg", tmp_path / "p/1.jpg")
    assert dataset.labels == ("daisy", "rose")
    assert dataset.targets == (1, 0)


def test_csv_with_a_split_column_gives_both_sides(tmp_path: Path) -> None:
    text = "split,path,label\ntrain,p/1.jpg,a\nval,p/2.jpg,b\ntrain,p/3.jpg,b\n"
    split = read_csv(csv_file(tmp_path, text))
    assert isinstance(split, Split)
    assert names(split.train) == ["1.jpg", "3.jpg"]
    assert names(split.val) == ["2.jpg"]
    assert split.val.targets == (1,)


def test_csv_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    text = '\ufeffPath,Label\r\n"p/1.jpg","a, b"\r\n\r\np/2.jpg, c \r\n'
    dataset = read_csv(csv_file(tmp_path, text))
    assert isinstance(dataset, Dataset)
    assert dataset.labels == ("a, b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns are missing"),
        ("p/1.jpg,a\n", "line 1: the columns are p/1.jpg,a; name them path,label"),
        ("path/label\np/1.jpg/a\n", "line 1: the columns are path/label"),
        ("path,label,path\np/1.jpg,a,b\n", "line 1: the columns are path,label,path"),
        ("path,label\n", "names no pictures"),
        ("path,label\np/1.jpg,a\np/2.jpg\n", "line 3: 1 cells where the columns are path,label"),
        ("path,label\np/1.jpg,a\np/9.jpg,b\n", "line 3: no such file: .*9.jpg"),
        ("path,label\np/1.jpg,\n", "line 2: has no label"),
        ("path,label\n,a\n", "line 2: has no path"),
        ('path,label\np/1.jpg,"a\nb"\n', r"line 3: the label 'a\\nb' holds a line break"),
        ("path,label\np/1.jpg,a\np/1.jpg,b\n", "line 3: .* is on line 2 too"),
        ("path,label\np/1.jpg,a\np/2.jpg,a\n", "needs at least two classes, found 1"),
        ('path,label\np/1.jpg,"a\n', "line 2: .*correct the quotes"),
        ("path,label,split\np/1.jpg,a,test\n", "line 2: split is 'test'; write train or val"),
        ("path,label,split\np/1.jpg,a,train\np/2.jpg,b,train\n", "no line says val"),
        ("path,label,split\np/1.jpg,a,train\np/2.jpg,b,val\n", "'b' has no picture marked train"),
    ],
)
def test_a_line_of_csv_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, message: str
) -> None:
    file = csv_file(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_csv(file)
    assert str(caught.value).startswith(str(file))


def test_csv_in_another_encoding_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_csv(csv_file(tmp_path, "path,label\np/1.jpg,blüte\n", "latin-1"))


def test_csv_that_is_missing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_csv(tmp_path / "list.csv")


def test_csv_for_validation_keeps_the_labels_of_training(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "path,label\np/1.jpg,c\n")
    dataset = read_csv(file, labels=("a", "b", "c"))
    assert isinstance(dataset, Dataset)
    assert dataset.targets == (2,)
    with pytest.raises(DataError, match="line 2: the training set has no class 'c'"):
        read_csv(file, labels=("a", "b"))


@pytest.mark.parametrize(
    "text",
    [
        "path;label\np/1.jpg;a\np/2.jpg;b, c\n",
        "path\tlabel\np/1.jpg\ta\np/2.jpg\tb, c\n",
        "path|label\np/1.jpg|a\np/2.jpg|b, c\n",
        "sep=;\npath;label\np/1.jpg;a\np/2.jpg;b, c\n",
        'id,"path",who,label,\n7,p/1.jpg,me,a,\n8,p/2.jpg,me,"b, c",\n,,,,\n',
        'label,path,width\na,p\\1.jpg,3\n"b, c",.\\p\\2.jpg\n',
    ],
)
def test_csv_as_other_programs_write_it_is_read(tmp_path: Path, text: str) -> None:
    dataset = read_csv(csv_file(tmp_path, text))
    assert isinstance(dataset, Dataset)
    assert names(dataset) == ["1.jpg", "2.jpg"]
    assert dataset.labels == ("a", "b, c")


def test_a_name_with_a_backslash_is_a_name(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "path,label\np\\1.jpg,a\np/2.jpg,b\n")
    (tmp_path / "p\\1.jpg").touch()
    dataset = read_csv(file)
    assert isinstance(dataset, Dataset)
    assert dataset.paths[0] == tmp_path / "p\\1.jpg"


def test_sides_are_read_in_any_spelling_and_a_third_is_left_out(tmp_path: Path) -> None:
    text = (
        "path,label,split\np/1.jpg,a,Train\np/2.jpg,a, VALIDATION\np/3.jpg,b,training\n"
        "p/4.jpg,c,test\n"
    )
    file = csv_file(tmp_path, text)
    (tmp_path / "p/4.jpg").touch()
    split = read_csv(file)
    assert isinstance(split, Split)
    assert (names(split.train), names(split.val)) == (["1.jpg", "3.jpg"], ["2.jpg"])
    assert split.train.labels == ("a", "b")
    assert split.files.line() == "Used 3 of 4 files; left out: 1 marked test"


BROKEN = {
    "p/9.jpg,a": "no such file: .*9.jpg",
    f"p/{'0' * 300}.jpg,a": "cannot be read \\(File name too long\\)",
    "p,a": "is a folder",
    "p/3.jpg,": "has no label",
    ",a": "has no path",
    "p/3.jpg": "1 cells where the columns are",
    "p/1.jpg,a": "is on line 2 too",
    "p/3.jpg,a\x07": "control character",
    "p/\x00.jpg,a": "null",
}


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_skipped_where_that_is_wanted(tmp_path: Path, line: str) -> None:
    file = csv_file(tmp_path, f"path,label\np/1.jpg,a\np/2.jpg,b\n{line}\np/8.jpg,a\n")
    dataset = read_csv(file, on_error="skip")
    assert isinstance(dataset, Dataset)
    assert names(dataset) == ["1.jpg", "2.jpg"]
    first, second = dataset.skipped
    assert re.search(f"line 4: .*{BROKEN[line]}", first.reason)
    assert "line 5: no such file" in second.reason
    with pytest.raises(DataError, match=rf"line 4: .*{BROKEN[line]}.* \(and 1 more such lines\)"):
        read_csv(file)


def test_a_file_without_one_good_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: no such file"):
        read_csv(csv_file(tmp_path, "path,label\nx.jpg,a\n"), on_error="skip")
