"""Which files a list of files and folders means."""

import os
import random
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic_runtime.errors import ImageError
from fic_runtime.images.picture_files import find_pictures, list_pictures, natural_key, walk

JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(24)


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


RUBBISH = (
    *("@eaDir", "@EADIR", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN", "$Recycle.Bin"),
    *(
        "lost+found",
        "System Volume Information",
        "#recycle",
        "@Recycle",
        ".Trash-1000",
        ".thumbnails",
    ),
)


@pytest.mark.parametrize("name", RUBBISH)
def test_thumbnails_and_rubbish_of_systems_are_left_out_and_counted(tmp_path, name):
    touch(tmp_path, "a.png", f"x/{name}/deep/b.png", f"x/{name}/notes", f"{name}/c.jpg")
    listing = list_pictures([tmp_path])
    assert [path.name for path in listing] == ["a.png"]
    kind = "hidden" if name.startswith(".") else f"in {name}"
    assert listing.files.line() == f"Used 1 of 3 files; left out: 2 {kind}"


@pytest.mark.parametrize("name", ["._a.png", ".a.png", "Thumbs.db", "desktop.ini", ".DS_Store"])
def test_files_of_systems_are_left_out(tmp_path, name):
    touch(tmp_path, "a.png", name)
    assert found(tmp_path) == ["a.png"]


def test_links_to_pictures_and_folders_are_followed(tmp_path):
    touch(tmp_path, "real/a.png", "real/b/c.png", "data/0.png")
    (tmp_path / "data/1.png").symlink_to(tmp_path / "real/a.png")
    (tmp_path / "data/b").symlink_to("../real/b")
    assert found(tmp_path / "data") == ["0.png", "1.png", "b/c.png"]
    (tmp_path / "link").symlink_to("data")
    assert found(tmp_path / "link") == ["0.png", "1.png", "b/c.png"]


def test_no_link_leads_round_in_a_circle_or_out_of_the_folder(tmp_path):
    touch(tmp_path, "data/a/1.png", "beside/2.png")
    for name, target in {
        "data/a/itself": ".",
        "data/a/up": "..",
        "data/a/out": "../..",
        "data/again": "a",
        "data/whole": tmp_path / "data",
    }.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "data/round.png").symlink_to("round.png")
    listing = list_pictures([tmp_path / "data"])
    # The link that leads nowhere is read as a picture, so that the user hears of it.
    assert len(listing) == 2
    assert listing.pictures[1].name == "round.png"
    assert listing.files.line() == "Used 2 of 3 files; left out: 1 link to a folder above"


def test_a_folder_that_links_reach_too_has_its_own_name(tmp_path):
    touch(tmp_path, "b/x/1.png")
    for link in ("a", "c"):
        (tmp_path / link).symlink_to("b")
    (tmp_path / "b/z").symlink_to("x")
    assert found(tmp_path) == ["b/x/1.png"]


def test_what_is_left_out_is_counted_by_kind_and_listed(tmp_path):
    touch(tmp_path, "a.png", "1.heic", "2.HEIC", "b", "c.jpg?w=640", "d.txt", "e.jpg ")
    (tmp_path / "gone").symlink_to("nowhere")
    listing = list_pictures([tmp_path])
    assert listing.files.line() == (
        "Used 1 of 8 files; left out: 2 .heic, 1 '.jpg ', 1 '.jpg?w=640', 1 .txt, 1 broken link, "
        "1 without a suffix; convert HEIC to JPEG first, with heif-convert or, on macOS, sips"
    )
    assert f"left out: {tmp_path / 'd.txt'} (.txt)" in list(listing.files.details())


def test_many_kinds_fit_on_one_line(tmp_path):
    touch(tmp_path, "a.png", *(f"{number}.x{number}" for number in range(50)), "\n\x1b[31m.\u202e")
    line = list_pictures([tmp_path]).files.line()
    assert line.endswith("45 of other kinds")
    assert line.isprintable()


def test_nothing_is_said_where_every_file_is_used(tmp_path):
    touch(tmp_path, "a.png", "b/c.jpg", ".DS_Store", "Thumbs.db", ".git/config")
    assert list_pictures([tmp_path, tmp_path / "a.png"]).files.line() == ""


@pytest.mark.parametrize("name", ["a", "a.heic", "a.jpg?w=640", "a.jpg ", "a.jpg.1", "4f3a.bin"])
def test_a_picture_by_its_content_is_used_and_named(tmp_path, name):
    touch(tmp_path, "b.png")
    (tmp_path / name).write_bytes(JPEG)
    listing = list_pictures([tmp_path])
    assert {path.name for path in listing} == {name, "b.png"}
    assert listing.files.by_content == (tmp_path / name,)
    assert listing.files.line().startswith("Used 2 of 2 files, 1 of them pictures by content only")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.jpg~", JPEG), ("a.jpg.bak", JPEG), ("a.jpg.part", JPEG), ("a.crdownload", JPEG)),
        *(("a.nef", b"II*\0" + bytes(40)), ("BMW.txt", b"BMW and others"), ("P5", b"P5 is no map")),
        *(("a", b""), ("a.xml", b"<?xml?>"), ("a.heic", HEIC)),
    ],
)
def test_remainders_raw_photos_and_texts_are_no_pictures(tmp_path, name, content):
    touch(tmp_path, "b.png")
    (tmp_path / name).write_bytes(content)
    listing = list_pictures([tmp_path])
    assert [path.name for path in listing] == ["b.png"]
    assert [each.path.name for each in listing.files.left_out] == [name]


def test_heic_is_told_by_its_content_too(tmp_path):
    touch(tmp_path, "b.png")
    (tmp_path / "a").write_bytes(HEIC)
    assert "1 HEIC; convert HEIC to JPEG first" in list_pictures([tmp_path]).files.line()


def test_what_is_no_plain_file_is_never_opened(tmp_path, monkeypatch):
    touch(tmp_path, "b.png")
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        listing = list_pictures([Path()])
    assert [path.name for path in listing] == ["b.png"]
    assert listing.files.line() == "Used 1 of 4 files; left out: 3 no plain file"


def test_an_empty_folder_and_a_vain_pattern_do_not_stop_the_rest(tmp_path):
    touch(tmp_path, "a.png", "notes/b.txt")
    arguments = [tmp_path / "notes", tmp_path / "*.gif", tmp_path / "a.png"]
    # They stand at their place, and reading them says what is wrong.
    assert list(list_pictures(arguments)) == arguments


def test_an_empty_path_is_not_the_working_folder(tmp_path, monkeypatch):
    touch(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="a path is empty; is a variable unset"):
        find_pictures(["", "a.png"])
    assert find_pictures(["."]) == [Path("a.png")]


def test_a_locked_folder_stands_in_the_list_to_be_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "locked/b.png", "z.png")
    really = os.scandir

    def scandir(folder):
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", folder)
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)  # the tests may run as root, whom nothing stops
    assert found(tmp_path) == ["a.png", "locked", "z.png"]
    with pytest.raises(ImageError, match=r"locked: cannot be read \(Permission denied\)"):
        find_pictures([tmp_path / "locked"])


def test_a_file_system_without_numbers_is_walked_whole(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/2.png")
    really = Path.stat

    class Unnumbered:
        def __init__(self, status):
            self.st_dev, self.st_ino, self.st_mode = status.st_dev, 0, status.st_mode

    monkeypatch.setattr(Path, "stat", lambda path, **options: Unnumbered(really(path, **options)))
    assert len(walk(tmp_path).pictures) == 2
