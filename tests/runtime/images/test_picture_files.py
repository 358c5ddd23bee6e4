"""Which files a list of files and folders means."""

import random
from pathlib import Path

import pytest

from fic_runtime.errors import ImageError
from fic_runtime.images.picture_files import find_pictures, natural_key


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder):
    return [path.relative_to(folder).as_posix() for path in find_pictures([folder])]


def test_numbers_in_names_are_sorted_as_numbers(tmp_path):
    touch(tmp_path, "img10.png", "img2.png", "img1.png")
    assert found(tmp_path) == ["img1.png", "img2.png", "img10.png"]


def test_names_that_differ_in_zeros_only_have_one_order():
    names = [Path(f"img{zeros}7{end}.png") for zeros in ("", "0", "00") for end in ("", "b")]
    expected = sorted(names, key=natural_key)
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert sorted(names, key=natural_key) == expected


@pytest.mark.parametrize("name", ["", "7", "7a", "a7", "a", "a7b8", "٣", "²", "a-1.5e9.png"])
def test_every_name_can_be_compared_with_every_other(name):
    for other in ("", "7", "a", "a7b"):
        assert isinstance(natural_key(Path(name)) < natural_key(Path(other)), bool)


def test_pictures_are_found_by_suffix_in_every_case_below_the_folder(tmp_path):
    touch(tmp_path, "a.JPG", "b/c/d.webp", "b/notes.txt", "e", "f.jpg.txt")
    assert found(tmp_path) == ["a.JPG", "b/c/d.webp"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "a.png", ".b.png", ".cache/c.png", "d/.e/f.png")
    assert found(tmp_path) == ["a.png"]


def test_a_hidden_folder_that_is_named_is_searched(tmp_path):
    touch(tmp_path, ".cache/c.png")
    assert found(tmp_path / ".cache") == ["c.png"]


def test_a_folder_called_like_a_picture_is_none(tmp_path):
    touch(tmp_path, "album.png/a.png")
    assert found(tmp_path) == ["album.png/a.png"]


def test_files_that_are_named_are_taken_as_they_are_and_in_their_order(tmp_path):
    touch(tmp_path, "folder/a.png")
    named = [tmp_path / "z.txt", tmp_path / "folder", tmp_path / "missing.png", tmp_path / "z.txt"]
    assert find_pictures(map(str, named)) == [
        named[0],
        tmp_path / "folder/a.png",
        named[2],
        named[3],
    ]


def test_a_name_that_no_file_can_have_is_left_to_the_reader():
    assert find_pictures(["a" * 5000]) == [Path("a" * 5000)]


def test_a_folder_without_pictures_is_an_error(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(ImageError, match="no pictures in this folder; give image files"):
        find_pictures([tmp_path])
