from pathlib import Path

import cv2
import numpy as np
import pytest

import fic.data.thumbnails as thumbnails
from fic.data.thumbnails import SIDE, Thumbnail, read_thumbnails
from fic.digests import digest_file


def write(path: Path, height: int = 400, width: int = 300) -> Path:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    return path


def read(*paths: Path, memo: Path | None = None) -> dict[Path, Thumbnail]:
    return read_thumbnails(paths, {path: digest_file(path) for path in paths}, memo)


@pytest.mark.parametrize("size", [(400, 300), (20, 30), (1, 500)])
def test_a_thumbnail_keeps_the_shape_and_knows_the_file(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = write(tmp_path / "picture.png", *size).rename(tmp_path / "picture.jpg")
    one = read(path)[path]
    assert (one.format, one.height, one.width) == ("PNG", *size)
    pixels = cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert max(pixels.shape) == min(SIDE, max(size))


def test_a_thumbnail_is_made_once_for_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "a.png")
    memo = tmp_path / "thumbnails.sqlite"
    before = read(first, memo=memo)
    copy = tmp_path / "b.png"
    copy.write_bytes(first.read_bytes())
    monkeypatch.setattr(thumbnails, "_make", lambda path: pytest.fail(f"{path} was read"))
    assert read(copy, memo=memo)[copy] == before[first]


def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    assert read(text) == {}


def test_a_file_that_is_no_memo_costs_time_only(tmp_path: Path) -> None:
    memo = tmp_path / "thumbnails.sqlite"
    memo.write_bytes(b"rubbish" * 1000)
    path = write(tmp_path / "a.png")
    assert path in read(path, memo=memo)
    assert memo.read_bytes() == b"rubbish" * 1000
