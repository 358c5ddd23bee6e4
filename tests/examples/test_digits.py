from pathlib import Path

import cv2
import numpy as np
import pytest

from fic.data.folders import read_folder
from tests.examples.conftest import run

load_digits = pytest.importorskip("sklearn.datasets").load_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "digits"
    assert run("digits.py", folder).returncode == 0
    return folder


def test_the_digits_are_a_data_set(folder: Path) -> None:
    dataset = read_folder(folder)
    assert dataset.labels == tuple("0123456789")
    assert dataset.counts == tuple(np.bincount(load_digits().target))


def test_a_picture_is_the_scan_itself(folder: Path) -> None:
    pixels = cv2.imread(str(folder / "0" / "0000.png"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    np.testing.assert_array_equal(np.rint(pixels / 255 * 16), load_digits().images[0])


def test_a_second_run_changes_nothing(folder: Path) -> None:
    before = folder.stat().st_mtime_ns
    result = run("digits.py", folder)
    assert result.stdout == f"1797 pictures in {folder}\n"
    assert folder.stat().st_mtime_ns == before
    assert list(folder.parent.iterdir()) == [folder]


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    result = run("digits.py", tmp_path)
    assert result.returncode == 1
    assert (
        result.stderr == f"{tmp_path}: holds something else; delete it or choose another folder\n"
    )


def test_usage_is_said_when_no_folder_is_given() -> None:
    assert "usage: digits.py [-h] OUT" in run("digits.py").stderr
