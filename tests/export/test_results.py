"""Results appear whole or not at all, and nothing else is touched."""

from pathlib import Path

import pytest

from fic_export.errors import OutputError
from fic_export.results import check_replaceable, replacing_folder

MARK = "manifest.json"


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def earlier(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / MARK).write_text("old")
    (folder / "only-old").write_text("old")
    return folder


def write(folder, text="new"):
    with replacing_folder(folder, mark=MARK) as fresh:
        (fresh / MARK).write_text(text)


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    write(tmp_path / "a/b/bundle")
    assert contents(tmp_path) == {"a/b/bundle/manifest.json": "new"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle")
    assert contents(tmp_path) == {"bundle/manifest.json": "new"}


def test_an_earlier_result_is_replaced_as_a_whole(earlier):
    write(earlier)
    assert contents(earlier.parent) == {"bundle/manifest.json": "new"}
    assert list(earlier.parent.iterdir()) == [earlier]


def test_the_earlier_result_stands_until_the_new_one_is_whole(earlier):
    with replacing_folder(earlier, mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        assert (earlier / MARK).read_text() == "old"


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_earlier_result_stays_when_the_new_one_fails(kind, earlier):
    with pytest.raises(kind), replacing_folder(earlier, mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        raise kind
    assert contents(earlier.parent) == {"bundle/manifest.json": "old", "bundle/only-old": "old"}


def test_nothing_is_left_of_a_result_that_fails(tmp_path):
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "a/b", mark=MARK) as fresh:
        (fresh / MARK).write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_comes_back_when_the_new_one_cannot_take_its_place(earlier, monkeypatch):
    rename = Path.rename

    def fail_for_the_new(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space"):
        write(earlier)
    assert contents(earlier.parent) == {"bundle/manifest.json": "old", "bundle/only-old": "old"}


@pytest.mark.parametrize("name", ["photo.jpg", ".hidden", "sub/manifest.json"])
def test_a_folder_with_other_files_is_refused_and_kept(name, tmp_path):
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("precious")
    with pytest.raises(OutputError, match=r"holds other files and no manifest\.json; give a new"):
        write(tmp_path / "mine")
    assert contents(tmp_path) == {f"mine/{name}": "precious"}


def test_files_that_come_while_the_result_is_made_are_kept(tmp_path):
    with (
        pytest.raises(OutputError, match="holds other files"),
        replacing_folder(tmp_path / "bundle", mark=MARK) as fresh,
    ):
        (fresh / MARK).write_text("new")
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle/mine").write_text("precious")
    assert contents(tmp_path) == {"bundle/mine": "precious"}


def test_a_file_is_refused_and_kept(tmp_path):
    (tmp_path / "bundle").write_text("precious")
    with pytest.raises(OutputError, match="is a file; give a new or empty folder"):
        check_replaceable(tmp_path / "bundle", mark=MARK)
    assert contents(tmp_path) == {"bundle": "precious"}


def test_a_link_stays_and_what_it_leads_to_is_replaced(earlier):
    link = earlier.parent / "current"
    link.symlink_to(earlier)
    write(link)
    assert link.is_symlink()
    assert contents(earlier) == {"manifest.json": "new"}


def test_a_relative_folder_is_found(earlier, monkeypatch):
    monkeypatch.chdir(earlier.parent)
    write(Path("bundle"))
    assert contents(earlier) == {"manifest.json": "new"}


def test_the_folder_can_be_read_by_others_as_any_new_one(tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "bundle").stat().st_mode == (tmp_path / "plain").stat().st_mode
