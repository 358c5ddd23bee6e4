from typing import Any

import numpy as np
import pytest

from fic.bottlenecks.views import draw_view
from fic.cache.keys import VIEW_RECIPE
from fic.digests import digest_bytes
from fic_runtime.images import resize_image
from fic_runtime.preprocessing import Geometry

GEOMETRY = Geometry(height=32, width=48)
DIGEST = digest_bytes(b"a picture")


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    random = np.random.default_rng(0)
    return np.repeat(random.integers(0, 256, (12, 20, 3), np.uint8), 5, axis=0)


def view(picture: np.ndarray[Any, Any], number: int, digest: bytes = DIGEST) -> Any:
    out = np.zeros((32, 48, 3), np.uint8)
    draw_view(picture, digest, number, GEOMETRY, out=out)
    return out


def test_the_first_view_is_the_plain_picture(picture: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(view(picture, 0), resize_image(picture, GEOMETRY))


def test_a_view_is_the_same_every_time(picture: np.ndarray[Any, Any]) -> None:
    before = picture.copy()
    first = view(picture, 3)
    view(picture, 5)
    np.testing.assert_array_equal(view(picture, 3), first)
    np.testing.assert_array_equal(picture, before)


def test_views_differ_from_each_other(picture: np.ndarray[Any, Any]) -> None:
    views = [view(picture, number) for number in range(6)]
    for number, one in enumerate(views):
        for other in views[:number]:
            assert np.abs(one.astype(int) - other).mean() > 2


def test_two_pictures_are_not_altered_alike(picture: np.ndarray[Any, Any]) -> None:
    other = view(picture, 1, digest_bytes(b"another picture"))
    assert not np.array_equal(view(picture, 1), other)


def test_odd_views_are_mirrored_and_even_ones_are_not() -> None:
    dark_to_light = np.broadcast_to(np.arange(0, 240, 4, np.uint8)[None, :, None], (40, 60, 3))
    rising = [
        view(np.ascontiguousarray(dark_to_light), number)[:, -1].mean()
        > view(np.ascontiguousarray(dark_to_light), number)[:, 0].mean()
        for number in range(6)
    ]
    assert rising == [True, False, True, False, True, False]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (4000, 1)])
def test_a_picture_of_any_shape_has_views(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 128, np.uint8)
    assert view(picture, 1).min() > 80


def test_the_recipe_gives_the_views_that_it_gave_before() -> None:
    """Cached views are found by the name of the recipe: change the name with the recipe."""
    assert VIEW_RECIPE == b"flip-crop-colour-1"
    y, x = np.mgrid[0:60, 0:80]
    picture = np.stack([4 * y, 3 * x, np.full_like(x, 60)], axis=2).astype(np.uint8)
    out = np.zeros((8, 8, 3), np.uint8)
    draw_view(picture, DIGEST, 1, Geometry(height=8, width=8), out=out)
    np.testing.assert_allclose(
        [out[0, 0], out[0, 7], out[7, 0]], [(34, 178, 56), (30, 28, 52), (179, 182, 60)], atol=1.5
    )
