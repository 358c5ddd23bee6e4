"""Bottlenecks in files: whole, exact, and only where they fit."""

import tracemalloc

import numpy as np
import pytest

from fic_runtime.cli.feature_files import feature_file
from fic_runtime.errors import OutputError

ROWS = np.array([[0.1, -2e-30, 3], [np.pi, 5, 6]], np.float32)


def write_features(out, files, rows):
    with feature_file(out, rows.shape[1:]) as add:
        for file, row in zip(files, rows, strict=True):
            add(file, row)


def test_a_table_gives_back_every_bit(tmp_path):
    write_features(tmp_path / "f.csv", ["a, b.png", "ü.png"], ROWS)
    table = np.loadtxt(
        tmp_path / "f.csv", np.float32, delimiter=",", skiprows=1, usecols=(-3, -2, -1)
    )
    np.testing.assert_array_equal(table, ROWS)
    assert '"a, b.png",' in (tmp_path / "f.csv").read_text("utf-8")


def test_maps_go_into_an_archive_of_arrays(tmp_path):
    maps = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    write_features(tmp_path / "f.npz", ["a", "b"], maps)
    with np.load(tmp_path / "f.npz") as arrays:
        np.testing.assert_array_equal(arrays["bottlenecks"], maps)


def test_maps_do_not_fit_a_table(tmp_path):
    with pytest.raises(OutputError, match=r"feature maps do not fit a table; .* in \.npz"):
        write_features(tmp_path / "f.csv", ["a"], np.zeros((1, 2, 2, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_an_archive_is_what_numpy_writes_of_the_same(tmp_path):
    write_features(tmp_path / "f.npz", ["a, b.png", "ü.png"], ROWS)
    with (tmp_path / "all_at_once.npz").open("wb") as file:
        np.savez(file, files=np.array(["a, b.png", "ü.png"]), bottlenecks=ROWS)
    assert (tmp_path / "f.npz").read_bytes() == (tmp_path / "all_at_once.npz").read_bytes()


@pytest.mark.parametrize("name", ["f.npz", "f.csv"])
def test_an_earlier_file_stays_until_the_new_one_is_whole(name, tmp_path):
    write_features(tmp_path / name, ["a", "b"], ROWS)
    before = (tmp_path / name).read_bytes()

    def rows():
        yield "c", ROWS[0]
        assert (tmp_path / name).read_bytes() == before
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(OutputError, match="No space left on device"),
        feature_file(tmp_path / name, (3,)) as add,
    ):
        for file, row in rows():
            add(file, row)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["f.npz", "f.csv"])
def test_rows_go_to_the_disk_as_they_come(name, tmp_path):
    row = np.zeros(250_000, np.float32)
    with feature_file(tmp_path / name, row.shape) as add:
        add("first.png", row)
        tracemalloc.start()
        for number in range(5):
            add(f"{number}.png", row)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < row.nbytes / 2


def test_a_folder_that_is_not_there_is_said_before_the_first_picture(tmp_path):
    with (
        pytest.raises(OutputError, match="No such file or directory"),
        feature_file(tmp_path / "absent/f.npz", (3,)),
    ):
        raise AssertionError("there is no file to write to")
