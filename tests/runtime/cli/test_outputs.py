"""Where the commands write: over nothing that they did not write, and never among pictures."""

import shutil

import numpy as np
import pytest

EXPLAINED = "explaining-bundle"


@pytest.fixture
def explaining(golden):
    return golden.with_name(EXPLAINED)


@pytest.fixture
def photos(golden, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(golden / "small.png", folder / name)
    return folder


@pytest.mark.parametrize("name", ["features.csv", "features.npz"])
def test_only_a_file_of_bottlenecks_is_replaced_by_one(name, run, golden, photos, tmp_path):
    out = tmp_path / name
    for _ in range(2):
        assert run("extract", golden, photos, "--out", out)[0] == 0
    for mine in ("file,label\na.jpg,cat\n", "precious"):
        out.write_text(mine)
        code, _, errors = run("extract", golden, photos, "--out", out)
        assert code == 1
        assert "is there already" in errors
        assert errors.count("\n") == 1
        assert out.read_text() == mine


def test_arrays_of_somebody_else_are_not_replaced(run, golden, photos, tmp_path):
    np.savez(tmp_path / "mine.npz", files=np.zeros(3))
    before = (tmp_path / "mine.npz").read_bytes()
    assert run("extract", golden, photos, "--out", tmp_path / "mine.npz")[0] == 1
    assert (tmp_path / "mine.npz").read_bytes() == before


def test_only_heat_maps_are_replaced_by_heat_maps(run, explaining, photos, tmp_path):
    for out in (tmp_path / "seen", tmp_path / "seen.png"):
        pictures = photos if out.suffix == "" else photos / "1.png"
        for _ in range(2):
            assert run("explain", explaining, pictures, "--out", out)[0] == 0
    for mine in (tmp_path / "seen/1.png.png", tmp_path / "seen.png"):
        shutil.copy(photos / "1.png", mine)
        out = mine if mine.parent == tmp_path else mine.parent
        assert run("explain", explaining, photos / "1.png", "--out", out)[0] == 1
        assert mine.read_bytes() == (photos / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("command", "pictures", "out"),
    [
        ("explain", "photos", "photos"),
        ("explain", "photos", "photos/seen"),
        ("explain", "photos/1.png", "photos"),
        ("extract", "photos", "photos/f.csv"),
        ("extract", "photos", "photos/deep/f.npz"),
    ],
)
def test_no_output_is_put_among_the_pictures(
    command, pictures, out, run, explaining, photos, tmp_path
):
    code, _, errors = run(command, explaining, tmp_path / pictures, "--out", tmp_path / out)
    assert code == 1
    assert "the pictures" in errors
    assert errors.count("\n") == 1
    assert {file.name for file in photos.iterdir()} == {"1.png", "2.png"}


@pytest.mark.parametrize("command", ["explain", "extract", "teach"])
def test_a_place_is_tried_before_the_first_picture(command, run, explaining, tmp_path):
    label = ["tulips"] if command == "teach" else []
    out = tmp_path / "a-file/f.npz"
    out.parent.touch()
    code, _, errors = run(command, explaining, *label, tmp_path / "none.png", "--out", out)
    assert code == 1
    assert "a-file" in errors
    assert errors.count("\n") == 1
