"""A small data set and one cold training on it, which the tests of this folder share."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fic.data import Source
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.progress import EpochFigures
from fic.runs import Run
from tests.conftest import MakePhotos

Fit = Callable[..., Run]
ListPictures = Callable[..., Path]


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


@pytest.fixture
def fit(photos: Path, base: BaseOptions, warm: CacheOptions, tmp_path: Path) -> Fit:
    """Return a function that trains on `photos`, with everything warm unless told otherwise."""
    from fic.training import train

    def run(**changes: Any) -> Run:
        given = {
            "source": Source(data=photos, val_split=0.25),
            "out": tmp_path / "run",
            "base": base,
            "cache": warm,
            "options": TrainingOptions(epochs=2),
            **changes,
        }
        return train(given.pop("source"), **given)

    return run


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
