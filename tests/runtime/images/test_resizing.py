"""Which part of a picture the base sees, and where a picture is laid that is seen whole."""

import pytest

from fic_runtime.images.resizing import central_part, fitted_part
from fic_runtime.preprocessing import Geometry

SQUARE = Geometry(height=50, width=50, crop_fraction=1.0)


@pytest.mark.parametrize(
    ("height", "width", "geometry", "part"),
    [
        (200, 100, SQUARE, (50, 0, 100, 100)),
        (100, 200, SQUARE, (0, 50, 100, 100)),
        (100, 103, Geometry(height=50, width=50, crop_fraction=0.5), (25, 26, 50, 50)),
        (60, 100, Geometry(height=24, width=32, crop_fraction=1.0), (0, 10, 60, 80)),
        (100, 60, Geometry(height=24, width=32, crop_fraction=1.0), (27, 0, 45, 60)),
        (1, 1000, Geometry(height=224, width=224), (0, 499, 1, 1)),
    ],
)
def test_a_crop_is_the_middle_of_wide_and_of_tall_pictures(height, width, geometry, part):
    assert central_part(height, width, geometry) == part


@pytest.mark.parametrize(
    ("height", "width", "part"),
    [
        (200, 100, (0, 12, 50, 25)),
        (100, 200, (12, 0, 25, 50)),
        (10, 5, (0, 12, 50, 25)),
        (1000, 1, (0, 24, 50, 1)),
        (1, 1000, (24, 0, 1, 50)),
    ],
)
def test_a_picture_that_is_fitted_lies_in_the_middle(height, width, part):
    assert fitted_part(height, width, SQUARE) == part
