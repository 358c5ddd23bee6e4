import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic.bases import find_base
from fic.bottlenecks.extraction import Picture, extract
from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.digests import digest_file
from fic.fingerprint import Fingerprint
from fic_runtime.errors import ImageError

PREPROCESSING = find_base("mobilenet_0.25").preprocessing(size=8)
GEOMETRY = PREPROCESSING.geometry


class MeanColour:
    """An engine whose bottleneck is the mean colour of the picture."""

    name = "mean colour"

    def __init__(self, passes: int = 2) -> None:
        self.passes = passes
        self.batches: list[int] = []
        self.most_at_once = 0
        self._running = 0
        self._guard = threading.Lock()

    def run(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with self._guard:
            self.batches.append(len(pixels))
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        time.sleep(0.001)
        with self._guard:
            self._running -= 1
        return pixels.mean(axis=(1, 2), dtype=np.float32)


class Broken(MeanColour):
    """An engine that fails in every worker."""

    def run(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise MemoryError("the base does not fit")


@pytest.fixture
def fingerprint() -> Fingerprint:
    return Fingerprint(
        base="mean_colour",
        weights="0" * 32,
        tensor="output",
        pooling="avg",
        preprocessing=PREPROCESSING,
        dtype="float32",
        shape=(3,),
    )


@pytest.fixture
def cache(tmp_path: Path, fingerprint: Fingerprint) -> Iterator[BottleneckCache]:
    with BottleneckCache(tmp_path / "cache", fingerprint) as cache:
        yield cache


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def put(folder: Path, count: int, views: int = 1, name: str = "{0}.png") -> list[Picture]:
    """Write pictures of one colour each: number i is (i, 2 i, 100) in RGB."""
    pictures = []
    for number in range(count):
        file = folder / name.format(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = (100, 2 * number, number)  # OpenCV writes BGR
        cv2.imwrite(str(file), np.full((10, 12, 3), colour, np.uint8))
        pictures.append(Picture(file, digest_file(file), list(range(views))))
    return pictures


def plain_keys(pictures: list[Picture]) -> Any:
    return make_keys([(picture.digest, 0) for picture in pictures])


def test_every_picture_becomes_its_own_bottleneck(tmp_path: Path, cache: BottleneckCache) -> None:
    pictures = put(tmp_path / "in", 30)
    assert extract(pictures, cache, MeanColour(), GEOMETRY, batch_size=4) == []
    expected = [(number, 2 * number, 100) for number in range(30)]
    np.testing.assert_array_equal(cache.read(cache.find(plain_keys(pictures))), expected)


@pytest.mark.parametrize("name", ["{0}.png", "{0}/picture.png"], ids=["one folder", "one each"])
def test_batches_are_full_whatever_the_folders(
    tmp_path: Path, cache: BottleneckCache, name: str
) -> None:
    engine = MeanColour()
    extract(put(tmp_path / "in", 23, name=name), cache, engine, GEOMETRY, batch_size=4)
    assert sorted(engine.batches, reverse=True) == [4, 4, 4, 4, 4, 3]


def test_views_of_one_picture_share_a_batch(tmp_path: Path, cache: BottleneckCache) -> None:
    engine = MeanColour()
    extract(put(tmp_path / "in", 6, views=3), cache, engine, GEOMETRY, batch_size=7)
    assert engine.batches == [6, 6, 6]
    assert len(cache) == 18


def test_a_picture_with_more_views_than_a_batch_is_a_batch(
    tmp_path: Path, cache: BottleneckCache
) -> None:
    engine = MeanColour()
    extract(put(tmp_path / "in", 2, views=5), cache, engine, GEOMETRY, batch_size=2)
    assert engine.batches == [5, 5]


@pytest.mark.parametrize("passes", [1, 3])
def test_no_more_passes_run_at_once_than_the_engine_allows(
    tmp_path: Path, cache: BottleneckCache, passes: int
) -> None:
    engine = MeanColour(passes)
    extract(put(tmp_path / "in", 60), cache, engine, GEOMETRY, batch_size=1)
    assert engine.most_at_once <= passes


def test_workers_wait_for_a_slow_disk(
    tmp_path: Path, cache: BottleneckCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all bottlenecks of a large data set would gather in memory."""
    monkeypatch.setattr("fic.bottlenecks.extraction.usable_cpus", lambda: 2)
    engine = MeanColour(passes=2)
    waiting: list[int] = []

    def slow(done: int, lost: int) -> None:
        if not waiting:
            waiting.append(settled(lambda: len(engine.batches)))

    extract(put(tmp_path / "in", 100), cache, engine, GEOMETRY, batch_size=1, progress=slow)
    # One taken, four in the queue, and one in the hands of each worker.
    assert waiting[0] <= 1 + 4 + 2
    assert len(engine.batches) == 100


def settled(count: Callable[[], int]) -> int:
    """Return a number once it has not changed for a while."""
    before = -1
    while before != (before := count()):
        time.sleep(0.3)
    return before


BAD = {
    "empty": b"",
    "text": b"this is no picture",
    "cut": cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)))[
        1
    ].tobytes()[:1500],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_is_left_out_and_named(
    tmp_path: Path, cache: BottleneckCache, kind: str
) -> None:
    pictures = put(tmp_path / "in", 5)
    pictures[2].path.write_bytes(BAD[kind])
    (skipped,) = extract(pictures, cache, MeanColour(), GEOMETRY, batch_size=2)
    assert skipped.path == pictures[2].path
    assert str(skipped.path) in skipped.reason
    assert (cache.find(plain_keys(pictures)) >= 0).tolist() == [True, True, False, True, True]


def test_a_batch_of_bad_pictures_does_not_reach_the_base(
    tmp_path: Path, cache: BottleneckCache
) -> None:
    pictures = put(tmp_path / "in", 4)
    for picture in pictures:
        picture.path.write_bytes(b"")
    engine = MeanColour()
    assert len(extract(pictures, cache, engine, GEOMETRY, batch_size=2)) == 4
    assert engine.batches == []


def test_skipped_pictures_are_listed_in_order(tmp_path: Path, cache: BottleneckCache) -> None:
    pictures = put(tmp_path / "in", 9)
    for picture in pictures:
        picture.path.unlink()
    skipped = extract(pictures, cache, MeanColour(), GEOMETRY, batch_size=1)
    assert [each.path for each in skipped] == [picture.path for picture in pictures]


def test_the_first_bad_picture_can_end_it(tmp_path: Path, cache: BottleneckCache) -> None:
    pictures = put(tmp_path / "in", 5)
    pictures[3].path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"3\.png"):
        extract(pictures, cache, MeanColour(), GEOMETRY, batch_size=2, stop_on_error=True)


def test_an_error_in_a_worker_comes_out_as_it_is(tmp_path: Path, cache: BottleneckCache) -> None:
    with pytest.raises(MemoryError, match="does not fit") as caught:
        extract(put(tmp_path / "in", 20), cache, Broken(), GEOMETRY, batch_size=1)
    assert caught.value.__context__ is None


def test_workers_end_when_the_consumer_fails_and_its_error_is_kept(
    tmp_path: Path, cache: BottleneckCache
) -> None:
    before = threading.active_count()

    def fail(done: int, lost: int) -> None:
        raise OSError("the terminal is gone")

    with pytest.raises(OSError) as kept:
        extract(
            put(tmp_path / "in", 40), cache, MeanColour(), GEOMETRY, batch_size=1, progress=fail
        )
    assert threading.active_count() == before
    assert kept.value.__traceback__ is not None


def test_ctrl_c_keeps_what_was_extracted(
    tmp_path: Path, cache: BottleneckCache, fingerprint: Fingerprint
) -> None:
    done = 0

    def interrupt(count: int, lost: int) -> None:
        nonlocal done
        done += count
        if done >= 6:
            raise KeyboardInterrupt

    pictures = put(tmp_path / "in", 40)
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, cache, MeanColour(), GEOMETRY, batch_size=2, progress=interrupt)
    with BottleneckCache(tmp_path / "cache", fingerprint) as again:
        assert (again.find(plain_keys(pictures)) >= 0).sum() == 6


def test_progress_adds_up_to_all_views(tmp_path: Path, cache: BottleneckCache) -> None:
    pictures = put(tmp_path / "in", 7, views=3)
    pictures[1].path.write_bytes(b"")
    pictures[6].path.write_bytes(b"")
    heard: list[tuple[int, int]] = []
    extract(
        pictures,
        cache,
        MeanColour(),
        GEOMETRY,
        batch_size=6,
        progress=lambda done, lost: heard.append((done, lost)),
    )
    assert tuple(map(sum, zip(*heard, strict=True))) == (15, 6)


def test_opencv_has_its_threads_back_afterwards(tmp_path: Path, cache: BottleneckCache) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with pytest.raises(MemoryError):
            extract(put(tmp_path / "in", 3), cache, Broken(), GEOMETRY, batch_size=1)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_nothing_to_extract_is_no_error(cache: BottleneckCache) -> None:
    assert extract([], cache, MeanColour(), GEOMETRY, batch_size=4) == []
    assert len(cache) == 0


class DarkIsNothing(MeanColour):
    """An engine that gives no numbers for a picture without red."""

    def run(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows = super().run(pixels)
        rows[rows[:, 0] == 0] = np.nan
        return rows


def test_a_picture_without_a_finite_bottleneck_is_skipped_by_name(
    cache: BottleneckCache, tmp_path: Path
) -> None:
    pictures = put(tmp_path, 5)
    counted: list[tuple[int, int]] = []
    skipped = extract(
        pictures,
        cache,
        DarkIsNothing(),
        GEOMETRY,
        batch_size=2,
        progress=lambda made, lost: counted.append((made, lost)),
    )
    assert [picture.path for picture in skipped] == [pictures[0].path]
    assert "0.png: the base gives no finite values for it" in skipped[0].reason
    assert [sum(numbers) for numbers in zip(*counted, strict=True)] == [4, 1]
    rows = cache.find(make_keys([(picture.digest, 0) for picture in pictures]))
    assert (rows >= 0).tolist() == [False, True, True, True, True]


def test_a_picture_without_a_finite_bottleneck_ends_a_strict_extraction(
    cache: BottleneckCache, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="gives no finite values"):
        extract(
            put(tmp_path, 2), cache, DarkIsNothing(), GEOMETRY, batch_size=1, stop_on_error=True
        )
