"""A small data set and one cold training on it, which the tests of this folder share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic.data import Source
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.progress import EpochFigures
from fic.runs import Run

MakePhotos = Callable[..., Path]
ListPictures = Callable[..., Path]


def draw(file: Path, target: int, seed: int) -> None:
    """Write a noisy picture in the colour of its class, different for each seed."""
    random = np.random.default_rng((target, seed))
    picture = random.integers(0, 50, (40, 50, 3), dtype=np.uint8)
    picture[:, :, target % 3] += 200
    cv2.circle(picture, (25, 20), int(random.integers(4, 14)), (120, 120, 20 * seed % 250), -1)
    assert cv2.imwrite(str(file), picture)


@pytest.fixture(scope="session")
def make_photos() -> MakePhotos:
    """Return a function that writes `count` pictures of each class, numbered from `first`."""

    def make(
        folder: Path,
        count: int = 8,
        *,
        labels: tuple[str, ...] = ("blue", "green", "red"),
        first: int = 0,
    ) -> Path:
        for target, name in enumerate(labels):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(first, first + count):
                suffix = "png" if number % 2 else "jpg"
                draw(folder / name / f"{number}.{suffix}", target, number)
        return folder

    return make


@pytest.fixture(scope="session")
def base() -> BaseOptions:
    """Return the smallest base, which needs no download."""
    return BaseOptions(base_model="mobilenet_0.25", weights="none", image_size=32)


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory, make_photos: MakePhotos) -> Path:
    """Return a data set that nobody changes: 3 classes of 8 pictures."""
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def cold_run(
    tmp_path_factory: pytest.TempPathFactory, shared_photos: Path, base: BaseOptions
) -> Run:
    """Return a run on `shared_photos` that found an empty cache; nobody changes it."""
    from fic.training import train

    folder = tmp_path_factory.mktemp("cold")
    run = train(
        Source(data=shared_photos, val_split=0.25),
        out=folder / "run",
        base=base,
        cache=CacheOptions(bottleneck_dir=folder / "cache"),
        options=TrainingOptions(epochs=20, learning_rate=0.01),
    )
    # Commands on the run may add to its cache; `warm` is as the training left it.
    shutil.copytree(folder / "cache", folder / "as trained")
    return run


@pytest.fixture
def run(cold_run: Run, tmp_path: Path) -> Run:
    """Return a copy of the cold run, to be damaged; its cache is the shared one."""
    shutil.copytree(cold_run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def photos(shared_photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the data set, to be changed."""
    shutil.copytree(shared_photos, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def warm(cold_run: Run, tmp_path: Path) -> CacheOptions:
    """Return a cache of its own that holds every bottleneck of `photos`, and the graph."""
    shutil.copytree(cold_run.folder.with_name("as trained"), tmp_path / "cache")
    return CacheOptions(bottleneck_dir=tmp_path / "cache")


@pytest.fixture
def empty(warm: CacheOptions) -> CacheOptions:
    """Return a cache that knows the base and its graph, and holds no bottleneck."""
    for shard in warm.bottleneck_dir.rglob("shard-*.h5"):
        shard.unlink()
    return warm


@pytest.fixture(scope="session")
def list_pictures() -> ListPictures:
    """Return a function that lists a folder of classes in a CSV file.

    With `val`, every val-th picture is marked for validation.
    """

    def write(folder: Path, file: Path, *, val: int = 0) -> Path:
        lines = ["path,label,split" if val else "path,label"]
        for number, path in enumerate(sorted(folder.glob("*/*.*"))):
            side = "" if not val else ",train" if number % val else ",val"
            lines.append(f"{path},{path.parent.name}{side}")
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


class Recorder:
    """A progress that remembers what it heard."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[dict[str, object]] = []
        self.epochs: list[EpochFigures] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        self.steps.append(
            {"title": title, "total": total, "done": done, "skipped": 0, "ended": False}
        )

    def advance(self, count: int, skipped: int = 0) -> None:
        self.steps[-1]["done"] += count
        self.steps[-1]["skipped"] += skipped

    def finish(self) -> None:
        self.steps[-1]["ended"] = True

    def epoch(self, figures: EpochFigures, epochs: int) -> None:
        self.epochs.append(figures)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
