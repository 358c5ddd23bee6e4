from pathlib import Path

import cv2
import numpy as np
import pytest

from fic.bottlenecks.cached import CacheUse
from fic.data.thumbnails import read_thumbnails
from fic.digests import digest_file
from fic.insight.cached_pictures import CachedPictures
from fic.insight.duplicates import find_duplicates
from fic.insight.neighbors import find_neighbors


def scene(seed: int) -> np.ndarray:
    """Return a picture with large shapes, different for each seed."""
    random = np.random.default_rng(seed)
    picture = np.full((120, 160, 3), random.integers(0, 256, 3), np.uint8)
    for _ in range(14):
        center = random.integers(0, (160, 120)).tolist()
        color = random.integers(0, 256, 3).tolist()
        cv2.circle(picture, center, int(random.integers(5, 40)), color, -1)
    return picture


COPIES = {
    "as it is": (lambda picture: picture, "exact"),
    "half as large": (lambda picture: cv2.resize(picture, (80, 60)), "same picture"),
    "mirrored": (lambda picture: picture[:, ::-1], "mirrored"),
    "cropped": (lambda picture: picture[10:110, 20:150], "cropped"),
    "cropped and mirrored": (lambda picture: picture[10:110, 20:150][:, ::-1], "cropped"),
    "with half the contrast": (lambda picture: picture // 2 + 40, "same picture"),
}


def cached(paths: list[Path], rows: np.ndarray, **changes: object) -> CachedPictures:
    values: dict = {
        "base": "mobilenet",
        "paths": paths,
        "targets": np.zeros(len(paths), np.int64),
        "labels": ("cat", "dog"),
        "sides": ["train"] * len(paths),
        "digests": {path: digest_file(path) for path in paths},
        "rows": rows,
        "use": CacheUse(),
    }
    return CachedPictures(**{**values, **changes})


def near(count: int) -> np.ndarray:
    """Return rows of length 1 that are all near each other, so that only pixels can decide."""
    rows = np.ones((count, 4), np.float32) + 0.1 * np.eye(count, 4, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def groups_of(pictures: CachedPictures) -> list:
    thumbnails = read_thumbnails(pictures.paths, pictures.digests, None)
    return find_duplicates(pictures, find_neighbors(pictures.rows, 6), thumbnails)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_similar_bottlenecks_alone_are_not_enough(
    name: str, tmp_path: Path
) -> None:
    change, kind = COPIES[name]
    pictures = [scene(1), scene(2), change(scene(1))]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    (group,) = groups_of(cached(paths, near(3)))
    assert (group.paths, group.kind) == ((paths[0], paths[2]), kind)
    assert not group.leaks and not group.disagrees


def test_pictures_of_one_color_are_no_copies_of_each_other(tmp_path: Path) -> None:
    paths = [tmp_path / "1.png", tmp_path / "2.png"]
    for path, level in zip(paths, (90, 91), strict=True):
        cv2.imwrite(str(path), np.full((30, 30, 3), level, np.uint8))
    assert groups_of(cached(paths, near(2))) == []


def test_what_training_and_validation_share_comes_first(tmp_path: Path) -> None:
    paths = []
    for number in (1, 2):
        for copy in "ab":
            paths.append(tmp_path / f"{number}{copy}.png")
            cv2.imwrite(str(paths[-1]), scene(number))
    pictures = cached(
        paths, near(4), sides=["train", "train", "train", "val"], targets=np.array([0, 0, 0, 1])
    )
    shared, other = groups_of(pictures)
    assert shared.paths == tuple(paths[2:])
    assert shared.leaks and shared.disagrees
    assert not other.leaks and not other.disagrees
