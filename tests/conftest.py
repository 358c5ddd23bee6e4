"""Fixtures that more than one folder of tests uses."""

import gc
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

MakePhotos = Callable[..., Path]
WriteVideo = Callable[[Path, Iterable[np.ndarray]], Path]


def pytest_configure() -> None:
    """Let the programs that tests start see Ctrl-C, which a shell hides from background jobs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # So does `nohup` with the end of a terminal.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real photos and weights beside the checkout, or skip the test."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "photos").is_dir():
        pytest.skip("needs the folder ../shared with real photos and weights")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests put into fic's caches out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIC_CACHE_DIR", str(tmp_path_factory.mktemp("fic-cache")))
        yield


@pytest.fixture(autouse=True)
def _quick_collection() -> Iterator[None]:
    """Keep what is loaded by now from the collections of each conversion, which then take no time.

    They are for bases of hundreds of megabytes; most tests convert some hundred weights. What a
    test leaves behind is garbage like any other when it ends.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _garbage() -> Iterator[None]:
    """Collect what the tests of a file left behind."""
    yield
    gc.collect()


@pytest.fixture
def nothing_left_in_memory() -> Iterator[None]:
    """Forget the Keras models of a test when it ends."""
    yield
    import keras

    keras.backend.clear_session()


def draw(file: Path, target: int, seed: int) -> None:
    """Write a noisy picture in the color of its class, different for each seed."""
    random = np.random.default_rng((target, seed))
    picture = random.integers(0, 50, (40, 50, 3), dtype=np.uint8)
    picture[:, :, target % 3] += 200
    cv2.circle(picture, (25, 20), int(random.integers(4, 14)), (120, 120, 20 * seed % 250), -1)
    assert cv2.imwrite(str(file), picture)


@pytest.fixture(scope="session")
def make_photos() -> MakePhotos:
    """Return a function that writes `count` pictures of each label, numbered from `first`."""

    def make(
        folder: Path,
        count: int = 8,
        *,
        labels: tuple[str, ...] = ("blue", "green", "red"),
        first: int = 0,
    ) -> Path:
        for target, label in enumerate(labels):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for number in range(first, first + count):
                suffix = "png" if number % 2 else "jpg"
                draw(folder / label / f"{number}.{suffix}", target, number)
        return folder

    return make


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """Return a function that writes a video of these frames, 10 a second."""

    def write(path: Path, frames: Iterable[np.ndarray]) -> Path:
        frames = list(frames)
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (width, height))
        if not writer.isOpened():
            pytest.skip("this build of OpenCV writes no MJPG")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))
        writer.release()
        return path

    return write
