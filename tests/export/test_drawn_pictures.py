"""Drawn pictures are of many kinds, and the same each time."""

import numpy as np

from fic_export.drawn_pictures import drawn_files, outlier_pictures
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry

GEOMETRY = Geometry(height=20, width=30)


def test_outliers_are_of_many_kinds_and_the_same_each_time():
    one, two = (outlier_pictures(GEOMETRY) for _ in range(2))
    assert all(picture.shape == (20, 30, 3) and picture.dtype == np.uint8 for picture in one)
    np.testing.assert_array_equal(one, two)
    assert len({picture.tobytes() for picture in one}) == len(one) == 60


def test_drawn_files_can_be_read_as_long_as_the_block_runs():
    with drawn_files(GEOMETRY) as files:
        assert {file.suffix for file in files} == {".jpg", ".png"}
        pictures = [load_image(file, GEOMETRY) for file in files]
    assert len({picture.tobytes() for picture in pictures}) == 32
    assert not any(file.exists() for file in files)
