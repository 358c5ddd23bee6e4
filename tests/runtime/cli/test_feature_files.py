"""Bottlenecks in files: whole, exact, and only where they fit."""

import numpy as np
import pytest

from fic_runtime.cli.feature_files import write_features
from fic_runtime.errors import OutputError

ROWS = np.array([[0.1, -2e-30, 3], [np.pi, 5, 6]], np.float32)


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


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    write_features(tmp_path / "f.npz", ["a", "b"], ROWS)
    before = (tmp_path / "f.npz").read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_features(tmp_path / "f.npz", ["c", "d"], ROWS)
    assert (tmp_path / "f.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]
