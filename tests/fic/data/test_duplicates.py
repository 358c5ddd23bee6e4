import shutil
from pathlib import Path
from typing import Any

import pytest

from fic.data import Source, read_pictures
from fic.data.duplicates import Duplicates


def find(source: Source, recorder: Any) -> Duplicates:
    pictures = read_pictures(source, memo=None, seed=0, on_error="skip", progress=recorder)
    return pictures.note_duplicates(recorder)


def test_nothing_is_said_of_different_pictures(photos: Path, recorder: Any) -> None:
    assert find(Source(data=photos), recorder) == Duplicates()
    assert recorder.notes == []


def test_a_picture_in_two_classes_is_told_with_numbers_and_names(
    photos: Path, recorder: Any
) -> None:
    for number in (0, 2, 4, 6):
        shutil.copy(photos / f"red/{number}.jpg", photos / f"blue/copy-{number}.jpg")
    found = find(Source(data=photos), recorder)
    assert len(found.two_classes) == 4
    (note,) = recorder.notes
    assert note.startswith("same picture in two classes: 4 (")
    assert f"{photos / 'blue/copy-0.jpg'} = {photos / 'red/0.jpg'}" in note
    assert " and 1 more)" in note


def test_a_picture_twice_in_a_class_is_told(photos: Path, recorder: Any) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "red/again.jpg")
    found = find(Source(data=photos), recorder)
    assert found.one_class == ((photos / "red/0.jpg", photos / "red/again.jpg"),)
    assert recorder.notes[0].startswith("same picture twice in one class: 1 (")


@pytest.mark.parametrize("how", ["folders", "csv"])
def test_a_picture_on_both_sides_is_told(photos: Path, recorder: Any, how: str) -> None:
    if how == "folders":
        shutil.copytree(photos, photos.parent / "val")
        source = Source(train=photos, val=photos.parent / "val")
    else:
        shutil.copy(photos / "red/0.jpg", photos / "copy.jpg")
        (photos / "list.csv").write_text(
            "path,label,split\nred/0.jpg,red,train\nblue/0.jpg,blue,train\ncopy.jpg,red,val\n"
        )
        source = Source(data=photos / "list.csv")
    found = find(source, recorder)
    assert len(found.both_sides) == (24 if how == "folders" else 1)
    (note,) = (note for note in recorder.notes if note.startswith("same"))
    assert note.startswith("same picture in training and validation: ")
