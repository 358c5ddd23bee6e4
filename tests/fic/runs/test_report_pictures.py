import numpy as np

from fic.runs.report_pictures import on_a_plane


def test_the_plane_keeps_groups_apart() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(3, 40), 20, axis=0) + 0.02 * random.standard_normal((60, 40))
    plane = on_a_plane(rows.astype(np.float32))
    centers = plane.reshape(3, 20, 2).mean(axis=1)
    spread = plane.reshape(3, 20, 2).std(axis=1).max()
    apart = [np.linalg.norm(centers[a] - centers[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 5 * spread


def test_equal_pictures_have_a_place_on_the_plane() -> None:
    assert np.isfinite(on_a_plane(np.ones((4, 8), np.float32))).all()
    assert np.isfinite(on_a_plane(np.zeros((4, 1), np.float32))).all()
