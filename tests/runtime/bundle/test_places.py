"""A bundle takes the place of a bundle, and of nothing else."""

import json
import os
import shutil
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from fic_runtime.bundle.places import appearing_bundle, check_bundle_place
from fic_runtime.errors import OutputError


@pytest.fixture
def bundle(golden, tmp_path):
    """Return a copy of a bundle; the pictures beside it in the checkout are not of it."""
    files = json.loads((golden / "manifest.json").read_text("utf-8"))["files"]
    (tmp_path / "bundle").mkdir()
    for name in (*files, "manifest.json"):
        shutil.copy(golden / name, tmp_path / "bundle" / name)
    return tmp_path / "bundle"


def packed(folder):
    archive = folder.with_suffix(".zip")
    with ZipFile(archive, "w") as zip_file:
        for file in folder.iterdir():
            zip_file.write(file, file.name)
    return archive


def test_an_earlier_bundle_may_be_replaced(bundle):
    (bundle / "README.md").touch()
    (bundle / "model.sig").touch()
    (bundle / ".DS_Store").touch()
    check_bundle_place(bundle)
    check_bundle_place(packed(bundle))
    check_bundle_place(bundle / "new/bundle")


def test_what_somebody_put_beside_a_bundle_is_not_replaced(bundle):
    (bundle / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds notes\.txt beside an earlier result"):
        check_bundle_place(bundle)


@pytest.mark.parametrize("text", ['{"manifest_version": 3, "name": "mine"}', "[]", "no JSON", ""])
def test_the_manifest_of_something_else_is_not_replaced(text, tmp_path):
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / "manifest.json").write_text(text)
    for place in (extension, packed(extension)):
        with pytest.raises(OutputError, match="not that of a bundle"):
            check_bundle_place(place)
    assert (extension / "manifest.json").read_text() == text


def test_what_comes_while_a_bundle_is_written_is_not_replaced(bundle):
    with pytest.raises(OutputError, match=r"holds notes\.txt"), appearing_bundle(bundle) as folder:
        (folder / "manifest.json").write_text("{}")
        (bundle / "notes.txt").write_text("mine")
    assert (bundle / "notes.txt").read_text() == "mine"
    assert json.loads((bundle / "manifest.json").read_text("utf-8"))["labels"]


def test_what_is_there_is_read_as_a_strangers(bundle):
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    with pytest.raises(OutputError):
        check_bundle_place(bundle)
    bomb = bundle.with_name("bomb.zip")
    with ZipFile(bomb, "w", ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(64 << 20))
    with pytest.raises(OutputError):
        check_bundle_place(bomb)
